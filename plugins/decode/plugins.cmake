# Decoders: a path and frame numbers in, uint8 THWC RGB out.
find_package(PkgConfig REQUIRED)
pkg_check_modules(SLUICE_LIBAV REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil libswscale)
set(SLUICE_DECODE_FILES decode/input_file.cpp)
set(SLUICE_DECODE_FFMPEG_PARTS ${SLUICE_DECODE_FILES} decode/bitstream.cpp decode/build_index.cpp decode/container.cpp decode/frame_decoder.cpp
  decode/frame_reader.cpp decode/index_file.cpp decode/index_store.cpp decode/libav.cpp decode/number_frames.cpp decode/orientation.cpp
  decode/packet_source.cpp decode/picture.cpp decode/runs.cpp decode/working_set.cpp)
sluice_plugin(decode.ffmpeg SOURCES decode/ffmpeg.cpp ${SLUICE_DECODE_FFMPEG_PARTS} LIBS PkgConfig::SLUICE_LIBAV)

include(OpenCV)
sluice_opencv(core imgproc imgcodecs videoio)
sluice_plugin(decode.frames
  SOURCES decode/frames.cpp decode/image_folder.cpp decode/image_size.cpp decode/scale_bgr.cpp ${SLUICE_DECODE_FILES}
  LIBS sluice::opencv_imgcodecs sluice::opencv_imgproc sluice::opencv_core)
sluice_plugin(decode.opencv
  SOURCES decode/opencv.cpp decode/container.cpp decode/orientation.cpp decode/scale_bgr.cpp decode/working_set.cpp decode/libav.cpp ${SLUICE_DECODE_FILES}
  LIBS sluice::opencv_videoio sluice::opencv_imgproc sluice::opencv_core PkgConfig::SLUICE_LIBAV)
