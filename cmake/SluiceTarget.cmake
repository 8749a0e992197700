# What every target of ours has in common: language, warnings, sanitizers, ccache.
set(SLUICE_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
option(SLUICE_COVERAGE "Instrument for llvm-cov" OFF)

find_program(SLUICE_CCACHE ccache)
if(SLUICE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Paths below the checkout count as relative: another checkout or build folder of the same depth finds what this one compiled.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND};-E;env;CCACHE_BASEDIR=${CMAKE_SOURCE_DIR};${SLUICE_CCACHE}")
endif()

# NDEBUG everywhere: the layout of LibTorch's RecordFunction depends on it, and our own assertions do not use it.
add_library(sluice_options INTERFACE)
target_compile_features(sluice_options INTERFACE cxx_std_20)
target_compile_definitions(sluice_options INTERFACE NDEBUG)
target_compile_options(sluice_options INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow=local -Wnon-virtual-dtor -Woverloaded-virtual -fno-math-errno
  # g++ 12 sees an overlap in std::string's own code where a literal and a string are added (GCC bug 105651).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)
if(SLUICE_SANITIZE)
  target_compile_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()
if(SLUICE_COVERAGE)
  target_compile_options(sluice_options INTERFACE -fprofile-instr-generate -fcoverage-mapping)
  target_link_options(sluice_options INTERFACE -fprofile-instr-generate)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)   # the installed program finds LibTorch where it was linked
