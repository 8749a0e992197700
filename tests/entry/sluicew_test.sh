#!/bin/sh
# Runs one case of what sluicew promises: sh sluicew_test.sh SOURCE_DIR CASE. sluicew works on a copy in an oddly named folder;
# apt-get, cmake, ninja and other programs that would change or take much are stand-ins that write down how they were called.
# Python, its virtual environments and pip are the real ones, with tiny wheels named torch and no network.
set -eu

source_dir=$1
case_name=$2
unset SLUICE_TORCH SLUICE_PACKAGES SLUICE_JOBS 2>/dev/null || :
export LC_ALL=de_DE.UTF-8                 # messages that are looked at must be asked for in English

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root="$work/a checkout ä"
fakes=$work/fakes
calls=$work/calls
mkdir -p "$root/cmake" "$root/tests" "$root/framework" "$fakes" "$work/wheels"
: >"$calls"
export calls work

# The machine's own description is replaced by ours, so that the cases do not depend on where they run.
sed -e "s|/etc/os-release|$work/os-release|g" -e "s|/proc/driver/nvidia/version|$work/nvidia-version|g" \
  "$source_dir/sluicew" >"$root/sluicew"
chmod +x "$root/sluicew"
cp "$source_dir/cmake/packages.txt" "$source_dir/cmake/libtorch.version" "$root/cmake/"
printf 'tiny==1.0\n' >"$root/tests/requirements.txt"
printf 'ID=debian\nVERSION_ID="12"\n' >"$work/os-release"
touch "$root/CMakeLists.txt" "$root/framework/a.cpp"

fake() { # NAME, body on stdin
  # shellcheck disable=SC2016  # expanded when the stand-in runs
  { printf '#!/bin/sh\necho "%s $*" >>"$calls"\n' "$1"; cat; } >"$fakes/$1"
  chmod +x "$fakes/$1"
}
fake dpkg-query <<'END'
[ -e "$work/packages-in" ] || exit 1
shift 2
for name; do echo "installed $name"; done
END
fake apt-get <<'END'
[ "$1 $2 $3" = "-q -o DPkg::Lock::Timeout=300" ]
case " $* " in *" install "*) touch "$work/packages-in" ;; esac
END
fake id <<'END'
echo "${fake_user:-0}"
END
fake nvidia-smi <<'END'
[ -n "${fake_driver-}" ] || { echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."; exit 9; }
echo "$fake_driver"
END
fake cmake <<'END'
mkdir -p "$2/build/release" && touch "$2/build/release/build.ninja"
END
fake ninja <<'END'
[ -z "${fake_build_fails-}" ] || exit 1
mkdir -p "$2/bin"
printf '#!/bin/sh\nprintf "%%s|" "$PWD" "$@"\nexit 7\n' >"$2/bin/sluice"
chmod +x "$2/bin/sluice"
END
fake ctest <<'END'
END
PATH="$fakes:$PATH"

# A wheel is a zip file; this one has just enough for pip and for sluicew's look at what came.
wheel() { # NAME VERSION [CUDA]
  /usr/bin/python3 - "$work/wheels" "$@" <<'END'
import sys, zipfile
folder, name, version, *cuda = sys.argv[1:]
info = f"{name}-{version}.dist-info"
with zipfile.ZipFile(f"{folder}/{name}-{version}-py3-none-any.whl", "w") as z:
    z.writestr(f"{name}/__init__.py", "")
    own = version + ("+cu130" if cuda else "")    # what the real CUDA build calls itself; to pip it is the plain version
    z.writestr(f"{name}/version.py", f"__version__ = '{own}'\ncuda: Optional[str] = {(cuda[0] if cuda else None)!r}\n")
    z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr(f"{info}/RECORD", "")
END
}
export PIP_NO_INDEX=1 PIP_FIND_LINKS="$work/wheels" PIP_CONFIG_FILE=/dev/null PIP_EXTRA_INDEX_URL=
pinned=$(sed -n 's/^version = //p' "$root/cmake/libtorch.version")
wheel torch "$pinned+cpu"
wheel torch "$pinned" 13.0
wheel tiny 1.0

# --- what a case says --------------------------------------------------------------------------------------------------

broken() {
  echo "FAILED: $*"
  echo "--- said:"; cat "$work/said"
  echo "--- called:"; cat "$calls"
  exit 1
}
run() { # EXPECTED-STATUS ARGUMENT...
  expected=$1 status=0
  shift
  "$root/sluicew" "$@" >"$work/out" 2>"$work/said" </dev/null || status=$?
  [ "$status" = "$expected" ] || broken "status $status, expected $expected"
}
says() { grep -qF -- "$1" "$work/said" || broken "did not say: $1"; }
is_silent() { [ ! -s "$work/said" ] || broken "said something though nothing was to do"; }
called() { grep -qF -- "$1" "$calls" || broken "did not call: $1"; }
never_called() { ! grep -q "^$1" "$calls" || broken "called $1"; }
never_called_with() { ! grep -qF -- "$1" "$calls" || broken "called with $1"; }
there() { [ -e "$root/$1" ] || broken "$1 is missing"; }
not_there() { [ ! -e "$root/$1" ] || broken "$1 is there"; }
kind_is() { grep -qx "kind=$1" "$root/.venv/sluice-torch" || broken "the $1 build should be in"; }
with_packages() { touch "$work/packages-in"; }
with_own_torch() { mkdir -p "$work/own torch"; export SLUICE_TORCH="$work/own torch"; }

# --- the cases, each named by its promise ------------------------------------------------------------------------------

# Mistake caught: a half install, or a sudo that nobody asked for.
without_root_it_prints_one_line_and_changes_nothing() {
  fake_user=1000 run 1 train p.toml
  names=$(sed -n 's/^build  *\([^ ]*\).*/\1/p' "$root/cmake/packages.txt" | tr '\n' ' ' | sed 's/ $//')
  grep -qxF "apt-get update && apt-get install -y --no-install-recommends $names" "$work/said" || broken "no line for the administrator"
  never_called apt-get
  not_there .venv
  not_there build
}

# Mistake caught: package names of another system tried on this one.
an_unknown_distribution_is_refused_before_anything_is_changed() {
  printf 'ID=fedora\nVERSION_ID=41\n' >"$work/os-release"
  run 1 train p.toml
  says "fedora 41"
  says "SLUICE_PACKAGES=skip"
  never_called apt-get
  not_there build
  with_own_torch
  SLUICE_PACKAGES=skip run 7 train p.toml
}

# Mistake caught: Ubuntu taken for unknown.
ubuntu_has_the_same_names() {
  printf 'ID=ubuntu\nVERSION_ID="24.04"\n' >"$work/os-release"
  run 0 setup packages
  called "install -y --no-install-recommends g++ cmake"
}

# Mistake caught: packages of the tests installed for who only trains; or apt-get run again though all is there.
packages_are_installed_once_and_by_group() {
  run 0 setup packages
  says "installing system packages"
  ! grep "install -y" "$calls" | grep -q doctest-dev || broken "test packages for a run"
  : >"$calls"
  run 0 setup packages
  is_silent
  never_called apt-get
}

# Mistake caught: a bare apt error, from which nobody learns what to do.
a_missing_network_is_explained() {
  fake apt-get <<'END'
case $LC_ALL in
  C) echo "E: Failed to fetch http://deb.debian.org/debian/x  Temporary failure resolving 'deb.debian.org'" ;;
  *) echo "E: Fehlschlag beim Holen von http://deb.debian.org/debian/x" ;;
esac
exit 100
END
  run 1 train p.toml
  says "Temporary failure resolving"
  says "no network, or a proxy is needed"
  not_there .venv
}

# Mistake caught: LibTorch fetched again, or a virtual environment whose scripts point to the folder that it was made in.
libtorch_is_fetched_once_and_the_environment_works() {
  with_packages
  run 0 setup torch
  says "cpu build: no NVIDIA driver found"
  kind_is cpu
  not_there .venv.new
  "$root/.venv/bin/pip" --version >/dev/null || broken "pip of the environment does not start"
  ! grep -rqI 'venv\.new' "$root/.venv/bin" "$root/.venv/pyvenv.cfg" || broken "a file names the folder it was made in"
  run 0 setup torch
  is_silent
}

# Mistake caught: a failed download leaves an environment that the next run takes for whole.
a_failed_download_leaves_nothing_half_made() {
  with_packages
  rm "$work/wheels"/torch-*
  run 1 setup torch
  says "the configured package index has no such build"
  not_there .venv
  not_there .venv.new
  wheel torch "$pinned+cpu"
  mkdir -p "$root/.venv.new/bin"      # as kill -9 leaves it
  run 0 setup torch
  kind_is cpu
}

# Mistake caught: an interrupted run leaves an environment that the next one takes for whole, or trips over.
a_kill_in_the_middle_leaves_nothing_half_made() {
  with_packages
  setsid "$root/sluicew" setup torch >"$work/said" 2>&1 </dev/null &
  until [ -e "$root/.venv.new" ]; do sleep 0.05; done
  kill -TERM "-$!"
  ! wait "$!" || broken "it went on"
  not_there .venv
  not_there .venv.new
  run 0 setup torch
  kind_is cpu
}

# Mistake caught: a virtual environment is tied to its path; scripts of a moved one run the old place's Python, or none.
a_moved_checkout_is_noticed() {
  with_packages
  run 0 setup torch
  mv "$root" "$work/elsewhere"
  root=$work/elsewhere
  run 0 setup torch
  says "the checkout was moved"
  "$root/.venv/bin/pip" --version >/dev/null || broken "pip of the environment does not start"
}

# Mistake caught: somebody's own .venv deleted.
an_environment_of_somebody_else_is_kept() {
  with_packages
  mkdir -p "$root/.venv" && touch "$root/.venv/precious"
  run 0 setup torch
  says ".venv was not made by sluicew"
  there .venv.before/precious
  there .venv/sluice-torch
}

# Mistake caught: a pin that is raised, and the old LibTorch stays in use.
a_new_pin_brings_a_new_libtorch() {
  with_packages
  run 0 setup torch
  wheel torch 2.99.0+cpu
  sed -i 's/^version = .*/version = 2.99.0/' "$root/cmake/libtorch.version"
  run 0 setup torch
  says "cmake/libtorch.version asks for 2.99.0, .venv has $pinned"
  grep -q "2.99.0" "$root"/.venv/lib/python3*/site-packages/torch/version.py || broken "the old one is still there"
}

# Mistake caught: a CUDA build for a driver that cannot run it.
an_old_driver_gets_the_cpu_build_and_is_named() {
  with_packages
  export fake_driver=535.129.03
  run 0 setup torch
  says "NVIDIA driver 535.129.03 is too old for CUDA"
  kind_is cpu
  run 0 setup torch
  is_silent
}

# Mistake caught: a driver that came later is never seen; one that went away makes the download go round in circles.
a_new_enough_driver_gets_the_cuda_build_whenever_it_comes() {
  with_packages
  run 0 setup torch
  kind_is cpu
  printf 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.44.01  Release Build  (dvs-builder@U22)  Tue Aug  5\nGCC version:  gcc version 12.3.0\n' >"$work/nvidia-version"
  run 0 setup torch
  says "cuda build: NVIDIA driver 590.44.01 found"
  kind_is cuda
  rm "$work/nvidia-version"
  run 0 setup torch
  is_silent
  kind_is cuda
}

# Mistake caught: --cpu forgotten by the next run, which then downloads gigabytes.
an_explicit_choice_is_kept_until_another() {
  with_packages
  export fake_driver=590.44.01
  run 0 --cpu setup torch
  says "asked for by --cpu"
  kind_is cpu
  run 0 setup torch
  is_silent
  run 0 --cuda setup torch
  kind_is cuda
}

# Mistake caught: asked for CUDA, got CPU, found out after an hour of training.
cuda_that_cannot_be_had_is_an_error() {
  with_packages
  rm "$work/wheels/torch-$pinned-py3-none-any.whl"
  run 1 --cuda setup torch
  not_there .venv
}

# Mistake caught: a LibTorch of one's own, and a download all the same.
an_own_libtorch_is_used_and_nothing_fetched() {
  with_packages
  SLUICE_TORCH=$work/nowhere run 1 train
  says "is no folder"
  with_own_torch
  run 1 --cpu train
  says "leave one of them away"
  run 7 train
  called "-DSLUICE_TORCH=$work/own torch"
  not_there .venv
}

# Mistake caught: arguments split at spaces, a lost exit code, another working directory, noise on standard output.
arguments_exit_code_and_folder_reach_sluice_untouched() {
  with_packages
  with_own_torch
  cd "$work/own torch"
  run 7 train 'a file.toml' 'x=*' ''
  [ "$(cat "$work/out")" = "$work/own torch|train|a file.toml|x=*||" ] || broken "arguments arrived as: $(cat "$work/out")"
}

# Mistake caught: a second configure or build where nothing has changed, a change that is missed, more than a second of looking.
nothing_is_built_twice_and_a_change_is_seen() {
  with_packages
  with_own_torch
  run 7 train
  says "configuring the build"
  says "building sluice, the first time"
  called "ninja -C $root/build/release -j"
  : >"$calls"
  before=$(date +%s%N)
  run 7 train
  after=$(date +%s%N)
  is_silent
  never_called cmake
  [ $(((after - before) / 1000000)) -lt 1000 ] || broken "took $(((after - before) / 1000000)) ms to find that nothing is to do"
  sleep 0.02
  touch "$root/framework/a.cpp"
  run 7 train
  says "building what has changed"
}

# Mistake caught: a fresh machine that only trains fails to configure, for the tests' packages are not there (so it was).
training_needs_nothing_of_the_tests() {
  run 7 train
  never_called_with doctest-dev
  called "-DSLUICE_BUILD_TESTS=OFF -DSLUICE_BUILD_BENCHMARKS=OFF"
  : >"$calls"
  run 0 test
  says "with the tests, the first time"
  called "-DSLUICE_BUILD_TESTS=ON -DSLUICE_BUILD_BENCHMARKS=ON"
  : >"$calls"
  run 7 train
  never_called cmake
}

# Mistake caught: a broken build that runs the old program.
a_failed_build_stops() {
  with_packages
  with_own_torch
  run 7 train
  sleep 0.02
  touch "$root/framework/a.cpp"
  fake_build_fails=1 run 1 train
  says "the build failed"
  [ ! -s "$work/out" ] || broken "the old program ran"
  run 7 train
}

# Mistake caught: tests without what they need, or all of them where the fast ones were asked for.
test_brings_what_tests_need_and_runs_the_label() {
  run 0 test fast -R ledger
  called "doctest-dev"
  called "ctest --test-dir $root/build/release --output-on-failure --no-tests=error"
  called "-L ^fast$ -R ledger"
  "$root/.venv/bin/python3" -c 'import tiny' || broken "tests/requirements.txt is not installed"
  : >"$calls"
  run 0 test
  ! grep -q -- '-L' "$calls" || broken "a label where all were asked for"
  [ -z "$(sed '/^$/d' "$work/said")" ] || broken "something was done twice"
}

# Mistake caught: two runs at once make the same environment, or build in the same folder.
a_second_one_waits_for_the_first() {
  with_packages
  with_own_torch
  mkdir -p "$root/build/sluicew"
  flock "$root/build/sluicew/lock" sleep 1 &
  sleep 0.2
  run 7 train
  says "another sluicew works on this checkout"
  wait
}

"$case_name"
echo "ok: $case_name"
