# Frame choice: arithmetic alone, no library.
foreach(name all clips dense uniform)
  sluice_plugin(frames.${name})
endforeach()
