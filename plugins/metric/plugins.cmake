sluice_plugin(metric.accuracy TORCH)
sluice_plugin(metric.mean_class TORCH)
sluice_plugin(metric.confusion TORCH)
