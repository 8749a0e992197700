sluice_plugin(model.recognizer TORCH)
sluice_plugin(model.long_recognizer TORCH)
