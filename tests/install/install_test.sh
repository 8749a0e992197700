#!/bin/sh
# Runs one case of what the install tree promises: sh install_test.sh SOURCE_DIR BUILD_DIR CASE. The case `tree` comes first: it
# installs the build into BUILD_DIR/installed/, moves the tree, and builds the examples against it alone; the others use it.
# SLUICE_TEST_TORCH: the LibTorch of the build.
set -eu

source_dir=$1
build_dir=$2
case_name=$3
unset SLUICE_TORCH LD_LIBRARY_PATH CXX CXXFLAGS CMAKE_PREFIX_PATH 2>/dev/null || :
export LC_ALL=C.UTF-8

shared=$build_dir/installed
tree=$shared/a\ moved\ tree
sluice=$tree/bin/sluice
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

broken() { echo "FAILED: $*"; cat "$work/said" 2>/dev/null || :; exit 1; }
run() { # EXPECTED-STATUS COMMAND...
  expected=$1 status=0
  shift
  "$@" >"$work/said" 2>&1 || status=$?
  [ "$status" = "$expected" ] || broken "exit code $status, not $expected, of: $*"
}
says() { grep -qF -- "$1" "$work/said" || broken "did not say: $1"; }
build_plugin() { # SOURCE NAME CMAKE-OPTION...: into $shared/NAME
  from=$1 into=$shared/$2
  shift 2
  ! command -v ccache >/dev/null || set -- -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  run 0 cmake -G Ninja -S "$from" -B "$into" "-DCMAKE_PREFIX_PATH=$tree" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "$@"
  run 0 ninja -C "$into"
  ! grep -qF "$source_dir/sdk" "$into/compile_commands.json" || broken "built with headers of the checkout"
}
pipeline() { # FOLDER OF PLUGINS, sections on stdin: writes $work/pipeline.toml
  { printf '[plugins]\npath = ["%s", "%s/tests/plugins"]\n' "$1" "$build_dir"; cat "$source_dir/tests/install/pipeline.toml" -; } >"$work/pipeline.toml"
}
train() { # FOLDER OF THE RUN, OVERRIDE...
  into=$work/$1
  shift
  run 0 "$sluice" train "$work/pipeline.toml" "run.dir=$into" "$@"
  says "finished: 3 steps"
  [ -s "$into/checkpoints/step-3/model.safetensors" ] || broken "no weights were saved"
}
same_weights() { cmp -s "$work/$1/checkpoints/step-3/model.safetensors" "$work/$2/checkpoints/step-3/model.safetensors"; }

# Mistakes caught: a header, library or package file that is not installed, or is found in the checkout only; a package that works
# at no other place than it was installed to; a stage half that needs LibTorch.
tree() {
  rm -rf "$shared"
  run 0 cmake --install "$build_dir" --prefix "$shared/first"
  mv "$shared/first" "$tree"
  [ "$(wc -l <"$source_dir/examples/stage/solarize.cpp")" -le 17 ] || broken "the example of a stage has more than 17 lines"
  build_plugin "$source_dir/examples/stage" "stage g++" -DCMAKE_CXX_COMPILER=g++
  ! grep -qi torch "$shared/stage g++/compile_commands.json" || broken "a stage was compiled with LibTorch"
  build_plugin "$source_dir/examples/stage" "stage clang++" -DCMAKE_CXX_COMPILER=clang++
  build_plugin "$source_dir/examples/backbone" backbone -DCMAKE_CXX_COMPILER=g++
}

# Mistake caught: a program that finds its libraries or plugins through the build folder.
a_moved_tree_finds_its_own_plugins() {
  run 0 "$sluice" plugins
  says backbone.r3d
  says source.video_list
  run 0 "$sluice" inspect backbone.r3d
  says "$tree/lib/sluice/plugins/backbone.r3d.so"
}

# Mistakes caught: a boundary of the stage half that depends on the compiler; a stage of a user that is listed but not run.
a_stage_of_two_compilers_does_the_same() {
  for compiler in g++ clang++; do
    run 0 "$sluice" plugins --path "$shared/stage $compiler"
    says augment.solarize
    run 0 "$sluice" inspect --path "$shared/stage $compiler" augment.solarize
    says "chance that a clip is solarized"
    grep -v "^  file" "$work/said" >"$work/$compiler.txt"
    pipeline "$shared/stage $compiler" <<'END'
[[stage]]
plugin = "augment.solarize"
p = 0.5
threshold = 100
END
    train "$compiler"
  done
  cmp "$work/g++.txt" "$work/clang++.txt" || broken "g++ and clang++ declare different things"
  same_weights g++ clang++ || broken "g++ and clang++ train different weights"
  train never stage.solarize.p=0
  ! same_weights never clang++ || broken "the stage changes nothing: did it run?"
}

# Mistake caught: fields of an out-of-tree plugin are not checked, or only after it was loaded.
a_mistake_in_a_stage_of_ones_own_has_its_place() {
  pipeline "$shared/stage g++" <<'END'
[[stage]]
plugin = "augment.solarize"
treshold = 100
END
  run 2 "$sluice" train "$work/pipeline.toml" "run.dir=$work/run"
  says "$work/pipeline.toml:$(grep -n treshold "$work/pipeline.toml" | cut -d: -f1):1:"
  says "did you mean threshold?"
  [ ! -e "$work/run" ] || broken "a run was begun"
}

# Mistake caught: a training plugin built outside does not meet the host (symbols, type information, LibTorch loaded twice).
a_backbone_of_ones_own_trains() {
  run 0 "$sluice" plugins --path "$shared/backbone"
  says backbone.small
  run 0 "$sluice" inspect --path "$shared/backbone" backbone.small
  says "channels of the first layer"
  pipeline "$shared/backbone" </dev/null
  train small model.backbone.plugin=backbone.small model.backbone.depth=4 model.backbone.width=8
  # Convolutions 27 x (3 x 8 + 8 x 16 + 16 x 32 + 32 x 64), norms 2 x (8 + 16 + 32 + 64), head 64 x 4 + 4.
  says "73,724 parameters"
  train again model.backbone.plugin=backbone.small model.backbone.depth=4 model.backbone.width=8 batch.microbatch=2
  train wider model.backbone.plugin=backbone.small model.backbone.depth=4 model.backbone.width=16
  ! same_weights small wider || broken "the width changes nothing: is it read?"
}

# Planted defect: the plugin is built with another LibTorch; its types have another layout, and calling it would be a crash.
a_plugin_of_another_libtorch_is_refused() {
  torch=$work/torch
  mkdir -p "$torch/include/torch"
  ln -s "$SLUICE_TEST_TORCH"/include/* "$torch/include/" 2>/dev/null || :
  ln -s "$SLUICE_TEST_TORCH"/include/torch/* "$torch/include/torch/"
  rm "$torch/include/torch/headeronly"
  mkdir "$torch/include/torch/headeronly"
  ln -s "$SLUICE_TEST_TORCH"/include/torch/headeronly/* "$torch/include/torch/headeronly/"
  ln -s "$SLUICE_TEST_TORCH/lib" "$torch/lib"
  ln -s "$SLUICE_TEST_TORCH/share" "$torch/share"
  version=$torch/include/torch/headeronly/version.h
  rm "$version"
  sed -e 's/\(define TORCH_VERSION_MINOR\) .*/\1 99/' -e 's/"[0-9.]*"/"2.99.0"/' \
    "$SLUICE_TEST_TORCH/include/torch/headeronly/version.h" >"$version"
  build_plugin "$source_dir/tests/install/halving" "halving of another LibTorch" "-DSLUICE_TORCH=$torch"
  pipeline "$shared/halving of another LibTorch" </dev/null
  run 3 "$sluice" train "$work/pipeline.toml" "run.dir=$work/run" schedule.plugin=schedule.halving
  says "schedule.halving"
  says "2.99.0"
  build_plugin "$source_dir/tests/install/halving" halving     # the control: the same source with the right LibTorch
  pipeline "$shared/halving" </dev/null
  train run schedule.plugin=schedule.halving
}

# Planted defect: a copy that was cut short. Wherever it is cut, no code of it may run and the message names the file.
a_plugin_that_is_cut_is_refused() {
  whole=$shared/stage\ g++/augment.solarize.so
  mkdir "$work/cut"
  size=$(wc -c <"$whole")
  for kept in 0 40 $((size / 4)) $((size / 2)) $((size - 1)); do
    head -c "$kept" "$whole" >"$work/cut/augment.solarize.so"
    pipeline "$work/cut" <<'END'
[[stage]]
plugin = "augment.solarize"
END
    run 3 "$sluice" train "$work/pipeline.toml" "run.dir=$work/run"
    says "$work/cut/augment.solarize.so"
  done
}

"$case_name"
echo "ok: $case_name"
