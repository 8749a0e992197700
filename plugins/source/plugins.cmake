# Sources. motion8 encodes with the FFmpeg libraries.
find_package(PkgConfig REQUIRED)
pkg_check_modules(SLUICE_LIBAV_WRITE REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil)
sluice_plugin(source.motion8
  SOURCES source/motion8.cpp source/motion8_files.cpp source/motion8_scene.cpp source/h264_file.cpp
  LIBS PkgConfig::SLUICE_LIBAV_WRITE)
