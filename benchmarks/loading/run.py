"""Loading speed and memory of sluice beside PyTorch's DataLoader: same clips, same cores, same output (see peers.py).

  .venv/bin/python benchmarks/loading/run.py            all three sets, 3 paired runs
  .venv/bin/python benchmarks/loading/run.py --sets gop12 --runs 5

Makes the videos with ffmpeg on first use, from real footage (Debian's opencv-doc, as pipelines/real_footage.toml), and a virtual
environment with the peers beside them (build/benchmarks).
Speed and memory are measured in separate runs, because a sampler costs the measured side time.
Memory: the largest sum of proportional set sizes (PSS) of the process and its children, sampled every 20 ms.
"""
import argparse
import csv
import pathlib
import random
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from measured_runs import ROOT, SLUICE, run_program

WORK = ROOT / "build" / "benchmarks" / "loading"
FOOTAGE = ROOT / "data" / "real_footage" / "vtest.avi"  # of Debian's opencv-doc
PEERS = ["torch==2.13.0", "numpy", "av==16.0.1", "opencv-python-headless", "torchcodec==0.11.1"]
# name: (size, frames a second, seconds, keyframe interval, number of files, clips a pass)
SETS = {
    "gop12": ("340x256", 30, 10, 12, 24, 192),
    "gop250": ("340x256", 30, 10, 250, 24, 192),
    "720p": ("1280x720", 30, 10, 60, 6, 48),
}


def make_set(name):
    size, rate, seconds, gop, files, clips = SETS[name]
    folder = WORK / name
    listing = folder / "list.csv"
    if listing.exists():
        return listing
    folder.mkdir(parents=True, exist_ok=True)
    if not FOOTAGE.exists():
        subprocess.run([ROOT / "pipelines" / "real_footage" / "unpack.sh", FOOTAGE.parent], check=True, stdout=subprocess.DEVNULL)
    paths = []
    for i in range(files):
        path = folder / f"{i:03}.mp4"
        # Another piece of the same 80 seconds of people walking (768x576) for each file, every second one mirrored.
        scale = f"setpts=N/{rate}/TB,scale={size.replace('x', ':')}" + (",hflip" if i % 2 else "")
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(FOOTAGE), "-vf", f"trim=start_frame={i * 31 % 795},{scale}", "-r", str(rate),
                        "-t", str(seconds), "-c:v", "libx264", "-preset", "medium", "-crf", "23", "-g", str(gop), "-pix_fmt", "yuv420p", str(path)], check=True)
        paths.append(path)
    rng = random.Random(7)
    span = 15 * 4 + 1
    rows = []
    for i in range(clips):
        start = rng.randrange(rate * seconds - span)
        rows.append((paths[i % files], i % 4, start, start + span))
    with open(listing, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start", "end"])
        writer.writerows(rows)
    return listing


def make_pipeline(name, listing, workers):
    path = WORK / f"{name}-{workers}.toml"
    path.write_text(f"""[run]
name = "loading-{name}"
epochs = 1
seed = 7
[budget]
host_ram = "512MiB"
workers = {workers}
[data]
plugin = "source.video_list"
train = "{listing}"
unit = "frames"
[[stage]]
plugin = "frames.dense"
frames = 16
stride = 4
[[stage]]
plugin = "decode.ffmpeg"
short_side = 128
[[stage]]
plugin = "augment.center_crop"
size = [112, 112]
[batch]
size = 8
[model]
plugin = "model.recognizer"
backbone = {{ plugin = "backbone.r3d_18" }}
head = {{ plugin = "head.linear" }}
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.01
""", encoding="utf-8")
    return path


def peer_python():
    venv = WORK / "peers"
    python = venv / "bin" / "python"
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEERS], check=True)
        (venv / "ready").touch()
    return python


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sluice", default=str(SLUICE))
    arguments = parser.parse_args()
    python = peer_python()
    for name in arguments.sets:
        listing = make_set(name)
        sides = {}
        for workers in (1, 2):
            sides[f"sluice, {workers} workers"] = [arguments.sluice, "data", "bench", make_pipeline(name, listing, workers), "--json"]
        for reader in ("PyAV", "OpenCV", "torchcodec"):
            for workers in (0, 1, 2):
                sides[f"{reader}, {workers} workers"] = [python, HERE / "peers.py", listing, reader, "--workers", workers]
        speed = {side: [] for side in sides}
        memory = {}
        for side, command in sides.items():  # first the memory: it also warms caches and indices
            memory[side] = run_program(command, True)[1]
        for _ in range(arguments.runs):
            for side, command in sides.items():  # in turn, so that a drifting machine drifts for all
                result, _ = run_program(command, False)
                speed[side].append(result["clips"] / result["seconds"])
        best = max((s for s in sides if not s.startswith("sluice")), key=lambda s: statistics.median(speed[s]))
        print(f"\n{name}: {SETS[name][0]}, keyframe every {SETS[name][3]} frames; {SETS[name][5]} clips; {arguments.runs} runs in turn")
        print(f"{'':24}{'clips/s':>9}{'min':>8}{'max':>8}{'peak MiB':>10}{'speed/best peer':>17}{'memory/best peer':>18}")
        for side in sides:
            median = statistics.median(speed[side])
            print(f"{side:24}{median:9.1f}{min(speed[side]):8.1f}{max(speed[side]):8.1f}{memory[side] / 2**20:10.0f}"
                  f"{median / statistics.median(speed[best]):17.2f}{memory[side] / memory[best]:18.2f}")


if __name__ == "__main__":
    main()
