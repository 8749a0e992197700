# Sources. motion8 and order6 encode with the FFmpeg libraries.
find_package(PkgConfig REQUIRED)
pkg_check_modules(SLUICE_LIBAV_WRITE REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil)
sluice_plugin(source.motion8
  SOURCES source/motion8.cpp source/motion8_scene.cpp source/generated_files.cpp source/h264_file.cpp
  LIBS PkgConfig::SLUICE_LIBAV_WRITE)
sluice_plugin(source.order6
  SOURCES source/order6.cpp source/order6_scene.cpp source/generated_files.cpp source/h264_file.cpp
  LIBS PkgConfig::SLUICE_LIBAV_WRITE)
sluice_plugin(source.video_list
  SOURCES source/video_list.cpp source/list_file.cpp source/video_folder.cpp source/split_list.cpp source/delimited_file.cpp)
