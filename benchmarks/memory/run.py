"""What a tight cgroup costs: the same run in a memory cgroup of exactly host_ram, and in one of twice as much.

  sudo .venv/bin/python benchmarks/memory/run.py [--runs 5]

24 clips of 240p to 1080p, decoded at their full size, and a network slow enough to be waited for; host_ram is the smallest that
works. Runs alternate; the figure is the median of the ratios, pair by pair. Needs the right to make a memory cgroup (version 1 or 2).
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SLUICE = ROOT / "build" / "release" / "bin" / "sluice"
WORK = ROOT / "build" / "benchmarks" / "memory"
SIZES = ["426x240", "640x360", "854x480", "1280x720", "1920x1080"]
PIPELINE = """[run]
name = "mixed"
dir = "{work}/run"
seed = 5
epochs = 2
[budget]
host_ram = "{host_ram}"
workers = 2
compute_threads = 1
[data]
plugin = "source.video_list"
train = "{work}/list.csv"
val = "{work}/list.csv"
duplicates = "keep"
[[stage]]
plugin = "frames.dense"
frames = 16
stride = 2
[[stage]]
plugin = "decode.ffmpeg"
[[stage]]
plugin = "augment.resize"
size = [96, 96]
[batch]
size = 8
[model]
plugin = "model.recognizer"
backbone = {{ plugin = "backbone.r3d", depth = 18, width = 16 }}
head = {{ plugin = "head.linear" }}
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.01
"""


def make_videos():
    WORK.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(SIZES):
        path = WORK / f"v{i}.mp4"
        if not path.exists():
            subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=rate=25:duration=2:size={size}", "-c:v", "libx264",
                            "-preset", "veryfast", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", str(path)], check=True)
    rows = [f"v{i * 3 % 5}.mp4,{'odd' if i % 2 else 'even'}" for i in range(24)]
    (WORK / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")


def pipeline(host_ram):
    path = WORK / "mixed.toml"
    path.write_text(PIPELINE.format(work=WORK, host_ram=host_ram), encoding="utf-8")
    return path


def smallest():
    result = subprocess.run([SLUICE, "check", pipeline("64MiB")], capture_output=True, text=True, check=False)
    return int(re.search(r"at least (\d+) bytes", result.stderr)[1])


class Cgroup:
    def __init__(self, limit):
        v1 = pathlib.Path("/sys/fs/cgroup/memory")
        first = (v1 / "memory.limit_in_bytes").exists()
        self.folder = (v1 if first else pathlib.Path("/sys/fs/cgroup")) / f"sluice_bench_{os.getpid()}"
        self.folder.mkdir()
        (self.folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit), encoding="ascii")

    def __enter__(self):
        return self.folder / "cgroup.procs"

    def __exit__(self, *_):
        for _ in range(100):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.02)


def run(host_ram, limit):
    subprocess.run(["rm", "-rf", WORK / "run"], check=True)
    with Cgroup(limit) as procs:
        result = subprocess.run(["sh", "-c", f'echo $$ > "{procs}" && exec "$0" "$@"', SLUICE, "train", pipeline(host_ram)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"exit {result.returncode} in a cgroup of {limit} bytes\n{result.stderr[-2000:]}")
    rows = [json.loads(line) for line in (WORK / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    end = next(row for row in rows if row["kind"] == "end")
    return end["time"]["seconds"], end["memory"]["resident"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    make_videos()
    host_ram = smallest()
    run(host_ram, 2 * host_ram)  # fills the caches
    tight, roomy = [], []
    for _ in range(arguments.runs):
        tight.append(run(host_ram, host_ram))
        roomy.append(run(host_ram, 2 * host_ram))
    print(f"host_ram {host_ram / 2**20:.0f} MiB, {arguments.runs} runs of each in turn")
    print(f"{'memory cgroup':24}{'median s':>9}{'min':>8}{'max':>8}{'resident MiB':>14}")
    for name, values in (("exactly host_ram", tight), ("twice host_ram", roomy)):
        seconds = [v[0] for v in values]
        print(f"{name:24}{statistics.median(seconds):9.2f}{min(seconds):8.2f}{max(seconds):8.2f}{max(v[1] for v in values) / 2**20:14.0f}")
    ratios = [t[0] / r[0] for t, r in zip(tight, roomy)]
    print(f"{'ratio, pair by pair':24}{statistics.median(ratios):9.3f}{min(ratios):8.3f}{max(ratios):8.3f}")


if __name__ == "__main__":
    main()
