sluice_plugin(head.linear TORCH)
