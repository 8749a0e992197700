# Finds LibTorch and makes the one target sluice::torch of it: headers, definitions, libraries.
#   -DSLUICE_TORCH=FOLDER   an unpacked LibTorch, a Python package folder torch/, or what holds one (a virtual environment,
#                           site-packages); also as an environment variable. Otherwise: .venv, as ./sluicew makes it.
# Sets SLUICE_TORCH_DIR, SLUICE_TORCH_VERSION, SLUICE_TORCH_CUDA (whether it is a CUDA build).
#
# LibTorch's own package file is not used: for a CUDA build it demands nvcc and a CUDA toolkit, which nothing here needs as
# long as no source includes a CUDA header. So a CPU and a CUDA build go the same way.
include_guard(GLOBAL)

set(SLUICE_TORCH "" CACHE PATH "LibTorch folder, or a folder with a Python package torch; empty: .venv")

file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/libtorch.version" pin_lines REGEX "^[a-z]+ = ")
foreach(line IN LISTS pin_lines)
  string(REGEX MATCH "^([a-z]+) = (.*)$" line "${line}")
  set(pin_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()

# Where the version stands: since 2.9 in the first file, before in the second.
function(sluice_torch_version folder result)
  set(${result} "" PARENT_SCOPE)
  foreach(file include/torch/headeronly/version.h include/torch/csrc/api/include/torch/version.h)
    if(EXISTS "${folder}/${file}")
      file(STRINGS "${folder}/${file}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
      list(TRANSFORM lines REPLACE "[^0-9]" "")
      list(JOIN lines "." version)
      if(version)                             # major.minor.patch, in the order of the file
        set(${result} "${version}" PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()

function(sluice_find_torch)
  if(SLUICE_TORCH)
    set(given "${SLUICE_TORCH}")
  elseif(DEFINED ENV{SLUICE_TORCH} AND NOT "$ENV{SLUICE_TORCH}" STREQUAL "")
    set(given "$ENV{SLUICE_TORCH}")
  elseif(SLUICE_TORCH_DEFAULT)                # the LibTorch that an installed sluice was built with
    set(given "${SLUICE_TORCH_DEFAULT}")
  else()
    set(given "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.venv")
  endif()
  get_filename_component(given "${given}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")

  file(GLOB packages LIST_DIRECTORIES true "${given}/lib/python3*/site-packages/torch" "${given}/lib/python3*/dist-packages/torch")
  foreach(candidate "${given}" "${given}/torch" ${packages})
    sluice_torch_version("${candidate}" version)
    if(version)
      set(folder "${candidate}")
      break()
    endif()
  endforeach()

  if(NOT version)
    message(FATAL_ERROR "No LibTorch in ${given}.\n"
      "Run ./sluicew setup torch, which makes .venv with LibTorch ${pin_version}, or name one of your own: -DSLUICE_TORCH=FOLDER "
      "(an unpacked LibTorch, or the folder of the Python package torch).")
  endif()
  if(version VERSION_LESS pin_oldest)
    message(FATAL_ERROR "LibTorch ${version} in ${folder} is too old: sluice needs ${pin_oldest} or newer, and is tested with "
      "${pin_version}. (The package libtorch-dev of Debian 12 is 1.13; it may stay installed, but is no use here.)\n"
      "Run ./sluicew setup torch, which makes .venv with LibTorch ${pin_version}, or name a newer one: -DSLUICE_TORCH=FOLDER.")
  endif()
  foreach(library torch torch_cpu c10)
    if(NOT EXISTS "${folder}/lib/lib${library}.so")
      message(FATAL_ERROR "LibTorch ${version} in ${folder} has headers but no lib/lib${library}.so: it is not whole. "
        "Remove it and run ./sluicew setup torch again, or name another: -DSLUICE_TORCH=FOLDER.")
    endif()
  endforeach()
  if(NOT version VERSION_EQUAL pin_version)
    message(WARNING "LibTorch ${version} in ${folder}: sluice is tested with ${pin_version}. Run the contract tests "
      "(./sluicew test -R libtorch_contract): they name what another version breaks.")
  endif()

  set(libraries "${folder}/lib/libtorch.so" "${folder}/lib/libtorch_cpu.so" "${folder}/lib/libc10.so")
  set(cuda OFF)
  foreach(library torch_cuda c10_cuda)
    if(EXISTS "${folder}/lib/lib${library}.so")
      list(APPEND libraries "${folder}/lib/lib${library}.so")
      set(cuda ON)
    endif()
  endforeach()

  # What the library was built with (USE_DISTRIBUTED, USE_C10D_GLOO, ...) decides what its headers declare.
  set(definitions "")
  set(exported "${folder}/share/cmake/Caffe2/Caffe2Targets.cmake")
  if(EXISTS "${exported}")
    file(READ "${exported}" text)
    if(text MATCHES "torch_cpu PROPERTIES[^)]*INTERFACE_COMPILE_DEFINITIONS \"([^\"]*)\"")
      set(definitions "${CMAKE_MATCH_1}")
    endif()
  endif()

  # Its headers come with a copy of fmt that would win over the system's, whose library and spdlog we link: the program then
  # neither compiles nor links. So the headers are seen through a folder of links that leaves fmt out.
  set(headers "${CMAKE_BINARY_DIR}/torch_headers")
  file(GLOB entries RELATIVE "${folder}/include" "${folder}/include/*")
  list(REMOVE_ITEM entries fmt)
  file(REMOVE_RECURSE "${headers}")
  file(MAKE_DIRECTORY "${headers}")
  foreach(entry IN LISTS entries)
    file(CREATE_LINK "${folder}/include/${entry}" "${headers}/${entry}" SYMBOLIC)
  endforeach()

  add_library(sluice::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(sluice::torch INTERFACE "${headers}" "${headers}/torch/csrc/api/include")
  # NDEBUG: the layout of RecordFunction, and so of all that holds one, depends on it.
  target_compile_definitions(sluice::torch INTERFACE NDEBUG ${definitions})
  target_compile_features(sluice::torch INTERFACE cxx_std_20)
  # --no-as-needed: kernels register themselves when their library is loaded; no symbol asks for them.
  # (NVIDIA's libraries, which a CUDA build needs, are found by the linker and the loader through the run path inside of it.)
  target_link_libraries(sluice::torch INTERFACE -Wl,--push-state,--no-as-needed ${libraries} -Wl,--pop-state)

  message(STATUS "LibTorch ${version} (CUDA: ${cuda}): ${folder}")
  set(SLUICE_TORCH_DIR "${folder}" PARENT_SCOPE)
  set(SLUICE_TORCH_VERSION "${version}" PARENT_SCOPE)
  set(SLUICE_TORCH_CUDA ${cuda} PARENT_SCOPE)
endfunction()
sluice_find_torch()
