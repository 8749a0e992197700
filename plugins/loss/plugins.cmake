sluice_plugin(loss.cross_entropy TORCH)
