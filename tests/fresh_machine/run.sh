#!/bin/sh
# Proves the README's two commands on a fresh machine: a minimal Debian 12 root made by mmdebstrap, without git, Python or sudo,
# the tracked files of this checkout, ./sluicew train pipelines/motion8.toml, ./sluicew test. Prints when each step was done.
#   tests/fresh_machine/run.sh [--keep] [--setup-only | --train-only | --test-only] [FOLDER]      as root; FOLDER: where the root is made
# --train-only: the first command alone and one epoch of it, for the time to the first step. --test-only: the second alone.
# What this machine needs to reach its package servers holds in there too: resolver, certificates, apt's proxy, pip's settings
# and the folders that they name, and the environment's PIP_* and *_proxy.
set -eu

keep='' last=test base=/var/tmp
for argument; do
  case $argument in
    --keep) keep=yes ;;
    --setup-only) last=setup ;;
    --train-only) last=train ;;
    --test-only) last=test-only ;;
    *) base=$argument ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "run.sh: making a root needs root" >&2; exit 1; }
for tool in mmdebstrap unshare git; do
  command -v $tool >/dev/null || { echo "run.sh: $tool is missing: apt-get install mmdebstrap git" >&2; exit 1; }
done

checkout=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
root=$(mktemp -d "$base/sluice-fresh.XXXXXX")
limit=900                                    # seconds to the first training step, the README's promise
finish() {
  if [ -n "$keep" ]; then echo "kept: $root"; else rm -rf --one-file-system "$root"; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

begun=$(date +%s)
note() { printf '%5d s  %s\n' $(($(date +%s) - begun)) "$*"; }

# --- the machine -------------------------------------------------------------------------------------------------------

apt_settings=$(apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date) ' || :)
printf '%s\n' "$apt_settings" >"$root.apt"
mmdebstrap --quiet --variant=minbase --include=ca-certificates --aptopt="$root.apt" \
  --setup-hook="cp $root.apt \"\$1/etc/apt/apt.conf.d/90host\"" bookworm "$root"
rm -f "$root.apt"
for name in git python3 sudo cmake c++; do
  [ ! -e "$root/usr/bin/$name" ] || { echo "run.sh: the root is not minimal: it has $name" >&2; exit 1; }
done
cp /etc/resolv.conf /etc/hosts "$root/etc/"
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
python3 -m pip config list 2>/dev/null | sed -n "s/\\\\n/ /g; s/^global\.\([a-z-]*\)='\(.*\)'\$/\1 = \2/p" >"$root.pip" || :
{ echo '[global]'; cat "$root.pip"; } >"$root/etc/pip.conf"
rm -f "$root.pip"
# A folder named simple is an index; what it lists lies beside it.
folders=$({ cat "$root/etc/pip.conf" 2>/dev/null; env | grep '^PIP_'; } | grep -oE '(file://)?/[^ ,]+' | sed 's|^file://||; s|/simple/*$||' | sort -u)

home=$root/root/sluice
mkdir -p "$home"
(cd "$checkout" && git ls-files -z | tar --null --no-recursion -T - -cf -) | tar -xf - -C "$home"
note "a minimal Debian 12 with $(find "$home" -type f | wc -l) files of sluice"

# --- the two commands --------------------------------------------------------------------------------------------------

# Mounts are private to this process: they are gone when it ends, however it ends.
cat >"$root/enter" <<'END'
#!/bin/sh
set -eu
root=$1
shift
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
for folder in $FRESH_FOLDERS; do
  [ -d "$folder" ] || continue
  mkdir -p "$root$folder"
  mount --rbind "$folder" "$root$folder"
done
exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb "$@"
END
passed=$(env | grep -E '^(PIP_[A-Z_]*|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)=' | tr '\n' ' ')
inside() { # COMMAND, run in the checkout in there; its lines get the time in front
  rm -f "$root/failed"
  # shellcheck disable=SC2086  # one word a variable, one a folder
  { FRESH_FOLDERS=$folders unshare --mount --pid --fork --kill-child --mount-proc="$root/proc" \
      sh "$root/enter" "$root" $passed sh -c "cd /root/sluice && $1" 2>&1 </dev/null || : >"$root/failed"; } |
    while IFS= read -r line; do note "$line"; done
  [ ! -e "$root/failed" ] || { note "FAILED: $1"; exit 1; }
}

begun=$(date +%s)
if [ "$last" = setup ]; then
  inside './sluicew setup'
  exit 0
fi
if [ "$last" = test-only ]; then
  inside './sluicew test'
  exit 0
fi

# Looked for from outside, so that nothing in there is changed by the question.
{
  while ! find "$home" -path '*/build' -prune -o -name metrics.jsonl -exec grep -q '"kind":"step"' {} \; -print -quit 2>/dev/null | grep -q .; do sleep 0.5; done
  date +%s >"$root/first-step"
} &
watch=$!
trap 'kill "$watch" 2>/dev/null; finish' EXIT
if [ "$last" = train ]; then epochs=' run.epochs=1'; else epochs=''; fi
inside "./sluicew train pipelines/motion8.toml$epochs"
[ -e "$root/first-step" ] || { note "FAILED: training wrote no metrics"; exit 1; }
first=$(($(cat "$root/first-step") - begun))
note "first training step: $first s after the first command began"
[ "$first" -le "$limit" ] || { note "FAILED: more than $limit s"; exit 1; }
[ "$last" != train ] || exit 0

inside './sluicew test'
note "both commands did what the README says"
