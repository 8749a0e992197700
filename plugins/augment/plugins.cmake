# Augmentations: uint8 THWC in, the same out. Those that scale do so with OpenCV's imgproc.
include(OpenCV)
sluice_opencv(core imgproc)
foreach(name center_crop color_jitter grayscale hflip random_crop random_erasing reverse vflip)
  sluice_plugin(augment.${name})
endforeach()
foreach(name random_resized_crop resize)
  sluice_plugin(augment.${name} SOURCES augment/${name}.cpp augment/resize_frames.cpp LIBS sluice::opencv_imgproc sluice::opencv_core)
endforeach()
