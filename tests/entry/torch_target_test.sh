#!/bin/sh
# Runs one case of what cmake/Torch.cmake promises: sh torch_target_test.sh SOURCE_DIR CASE. SLUICE_TEST_TORCH: a real LibTorch.
set -eu

source_dir=$1
case_name=$2
unset SLUICE_TORCH 2>/dev/null || :
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
torch="$work/a folder/torch"
mkdir -p "$torch"

broken() { echo "FAILED: $*"; cat "$work/said"; exit 1; }
configure() { # EXPECTED: works or fails
  status=works
  cmake -G Ninja -S "$source_dir/tests/entry/torch_target" -B "$work/build" "-DSLUICE_SOURCE=$source_dir" "-DSLUICE_TORCH=$torch" \
    -DCMAKE_BUILD_TYPE=Release >"$work/said" 2>&1 || status=fails
  [ "$status" = "$1" ] || broken "configuring $status, should have: $1"
}
says() { # The message without CMake's line breaks.
  tr -s '\n ' ' ' <"$work/said" | grep -qF -- "$1" || broken "did not say: $1"
}
version_header() { # FILE MAJOR MINOR PATCH
  mkdir -p "$(dirname "$torch/$1")"
  printf '#define TORCH_VERSION_MAJOR %s\n\n#define TORCH_VERSION_MINOR %s\n\n#define TORCH_VERSION_PATCH %s\n' "$2" "$3" "$4" >"$torch/$1"
}

# Mistake caught: a machine with libtorch-dev silently builds against 1.13.
debians_libtorch_is_refused_by_its_version() {
  version_header include/torch/csrc/api/include/torch/version.h 1 13 1
  configure fails
  says "LibTorch 1.13.1 in $torch is too old"
  says "./sluicew setup torch"
}

# Mistake caught: an error about a missing file from the middle of a compile.
no_libtorch_says_how_to_get_one() {
  configure fails
  says "No LibTorch in $torch"
  says "-DSLUICE_TORCH=FOLDER"
}

# Mistake caught: a download that was cut short is found out by the linker.
a_libtorch_that_is_not_whole_is_named() {
  version_header include/torch/headeronly/version.h 2 13 0
  configure fails
  says "lib/libtorch.so: it is not whole"
}

copy_of_real() { # Headers and libraries as links, so that a case can add to them.
  mkdir -p "$torch/lib"
  ln -s "$SLUICE_TEST_TORCH/include" "$torch/include"
  ln -s "$SLUICE_TEST_TORCH/share" "$torch/share"
  ln -s "$SLUICE_TEST_TORCH"/lib/*.so* "$torch/lib/"
}

# A CUDA build as pip installs it: a package file that asks for a toolkit, and two libraries more, which need NVIDIA's from a
# folder that only they know.
# Mistake caught: CMake asks for nvcc; the linker asks for NVIDIA's libraries; or drops the CUDA library, since no symbol needs it.
a_cuda_build_needs_no_cuda_toolkit() {
  copy_of_real
  rm "$torch/share"
  cp -r "$SLUICE_TEST_TORCH/share" "$torch/share"
  sed -i -e '/^if(0)$/{N;/cuda\.cmake/s/if(0)/if(ON)/}' -e 's/set(CAFFE2_USE_CUDA 0)/set(CAFFE2_USE_CUDA ON)/' \
    -e 's/if( AND NOT CAFFE2_USE_CUDA)/if(NOT CAFFE2_USE_CUDA)/' "$torch/share/cmake/Caffe2/Caffe2Config.cmake"
  mkdir -p "$work/a folder/nvidia/lib"
  echo 'int nvidia_answer() { return 42; }' | c++ -shared -fPIC -x c++ - -o "$work/a folder/nvidia/lib/libfakenvidia.so"
  echo 'int nvidia_answer(); int kernel_answer() { return nvidia_answer(); }' >"$work/kernel.cpp"
  for library in torch_cuda c10_cuda; do
    rm -f "$torch/lib/lib$library.so"
    # shellcheck disable=SC2016  # $ORIGIN is the loader's
    c++ -shared -fPIC "$work/kernel.cpp" -o "$torch/lib/lib$library.so" -L"$work/a folder/nvidia/lib" -lfakenvidia \
      -Wl,--enable-new-dtags,-rpath,'$ORIGIN/../../nvidia/lib'
  done
  mkdir "$work/bin"
  printf '#!/bin/sh\ntouch "%s/nvcc-called"\nexit 1\n' "$work" >"$work/bin/nvcc"
  chmod +x "$work/bin/nvcc"
  PATH=$work/bin:$PATH
  configure works
  says "cuda: ON"
  ninja -C "$work/build" >"$work/said" 2>&1 || broken "does not build"
  [ ! -e "$work/nvcc-called" ] || broken "asked for a CUDA compiler"
  "$work/build/sum" >"$work/said" || broken "does not run"
  [ "$(head -n 1 "$work/said")" = 4 ] || broken "wrong sum"
  for library in libtorch_cpu.so libtorch_cuda.so libc10_cuda.so libfakenvidia.so; do says "$library"; done
}

planted() { # MESSAGE: the case above, with the checkout in $work/planted, must fail with it
  ! sh "$0" "$work/planted" a_cuda_build_needs_no_cuda_toolkit >"$work/said" 2>&1 || broken "a planted defect was not noticed"
  says "$1"
}

# Planted defects: LibTorch's own package file, as everybody uses it; and a link line that drops what no symbol asks for.
a_target_that_needs_a_toolkit_or_drops_kernels_is_noticed() {
  mkdir -p "$work/planted/tests"
  cp -r "$source_dir/cmake" "$work/planted/cmake"
  mkdir "$work/planted/tests/entry"
  cp -r "$source_dir/tests/entry/torch_target" "$work/planted/tests/entry/"
  sed -i 's/-Wl,--push-state,--no-as-needed/-Wl,--push-state,--as-needed/' "$work/planted/cmake/Torch.cmake"
  planted "did not say: libtorch_cuda.so"
  cat >"$work/planted/cmake/Torch.cmake" <<'END'
find_package(Torch REQUIRED PATHS "${SLUICE_TORCH}/share/cmake" NO_DEFAULT_PATH)
add_library(sluice::torch INTERFACE IMPORTED GLOBAL)
target_link_libraries(sluice::torch INTERFACE ${TORCH_LIBRARIES})
set(SLUICE_TORCH_CUDA ON)
END
  planted "configuring fails, should have: works"
  says "Caffe2 version uses CUDA but I cannot find the CUDA"
}

# Mistake caught: a version that was never tried passes without a word, or one that would do is refused.
another_version_is_taken_with_a_warning() {
  copy_of_real
  rm "$torch/include"
  mkdir -p "$torch/include/torch"
  ln -s "$SLUICE_TEST_TORCH"/include/torch/* "$torch/include/torch/"
  rm "$torch/include/torch/headeronly"
  version_header include/torch/headeronly/version.h 2 99 1
  configure works
  says "LibTorch 2.99.1 in $torch: sluice is tested with"
}

"$case_name"
echo "ok: $case_name"
