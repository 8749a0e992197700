sluice_plugin(model.recognizer TORCH)
