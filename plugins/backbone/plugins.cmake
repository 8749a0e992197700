sluice_plugin(backbone.r3d TORCH)          # also r3d_18, mc3_18, r2plus1d_18
sluice_plugin(backbone.slow_r50 TORCH)
