sluice_plugin(optimizer.sgd TORCH)
sluice_plugin(optimizer.adam TORCH)        # also adamw
