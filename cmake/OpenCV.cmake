# OpenCV, module by module: sluice_opencv(core imgproc) makes the targets sluice::opencv_core and sluice::opencv_imgproc.
# Debian puts OpenCV's own package file into libopencv-dev, with all modules and what they need; these few need no more.
include_guard(GLOBAL)

function(sluice_opencv)
  find_path(SLUICE_OPENCV_HEADERS opencv2/core.hpp PATH_SUFFIXES opencv4 REQUIRED)
  foreach(module ${ARGN})
    if(NOT TARGET sluice::opencv_${module})
      find_library(SLUICE_OPENCV_${module} opencv_${module} REQUIRED)
      add_library(sluice::opencv_${module} UNKNOWN IMPORTED GLOBAL)
      set_target_properties(sluice::opencv_${module} PROPERTIES IMPORTED_LOCATION "${SLUICE_OPENCV_${module}}"
        INTERFACE_INCLUDE_DIRECTORIES "${SLUICE_OPENCV_HEADERS}")
    endif()
  endforeach()
endfunction()
