"""What the runtime costs: training from samples that cost nothing to make, beside a bare LibTorch loop; and the time to the
first step, beside plain PyTorch: warm, and cold (page cache dropped, nothing cached of the model; only root can measure that).

  .venv/bin/python benchmarks/runtime/run.py [--runs 5]

Both sides train the same network (motion8's small r3d, batch 16 x 16 x 64 x 64) with 2 threads, in turn; the figure is the
median step. sluice's step holds assembly (uint8 to float), accumulation, the report and the checks; the bare loop's none.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "release"
WORK = ROOT / "build" / "benchmarks" / "runtime"
DROP_CACHES = pathlib.Path("/proc/sys/vm/drop_caches")

PIPELINE = """[run]
name = "cached"
dir = "{dir}"
steps = {steps}
seed = 7
[budget]
host_ram = "2GiB"
workers = 1
compute_threads = 2
[plugins]
path = ["{plugins}"]
[data]
plugin = "source.synthetic"
train = 1600
val = 16
classes = 8
[[stage]]
plugin = "synthetic.clip"
frames = 16
size = [64, 64]
[batch]
size = 16
[model]
plugin = "model.recognizer"
backbone = {{ plugin = "backbone.r3d", depth = 10, width = 16 }}
head = {{ plugin = "head.linear" }}
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.0001
[eval]
every = 0
"""

PYTORCH_START = """
import time, sys
import torch
import torch.nn as nn
torch.set_num_threads(2)
net = nn.Sequential(nn.Conv3d(3, 16, 3, 2, 1), nn.BatchNorm3d(16), nn.ReLU(), nn.Conv3d(16, 32, 3, 2, 1), nn.ReLU(),
                    nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 8))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 3, 16, 64, 64), torch.zeros(16).long()), 16)
for x, y in loader:
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
"""


def sluice_run(steps):
    folder = WORK / "run"
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = WORK / "cached.toml"
    pipeline.write_text(PIPELINE.format(dir=folder, steps=steps, plugins=BUILD / "tests" / "plugins"), encoding="utf-8")
    begin = time.perf_counter()
    subprocess.run([BUILD / "bin" / "sluice", "train", pipeline], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps_only = [row for row in rows if row["kind"] == "step"]
    times = [row["time"] for row in steps_only][3:]
    return statistics.median(t["waiting"] + t["computing"] for t in times) if times else 0.0, wall


def drop_page_cache():
    os.sync()
    DROP_CACHES.write_text("3")


def pytorch_run():
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", PYTORCH_START], check=True)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    bare_command = [BUILD / "benchmarks" / "bench_bare_loop", BUILD / "lib/sluice/plugins/backbone.r3d.so", "backbone.r3d", "depth=10", "width=16",
                    "--", "16", "16", "64", "8", str(arguments.steps), "2"]
    sluice, bare, ratios = [], [], []
    for _ in range(arguments.runs):
        sluice.append(sluice_run(arguments.steps)[0])
        bare.append(json.loads(subprocess.run(bare_command, check=True, capture_output=True, text=True).stdout)["step_seconds"])
        ratios.append(sluice[-1] / bare[-1])
    print(f"{'step of 16 clips, 16x64x64':32}{'median ms':>11}{'min':>9}{'max':>9}")
    for name, values in (("sluice, waiting included", sluice), ("bare LibTorch loop", bare)):
        print(f"{name:32}{1e3 * statistics.median(values):11.2f}{1e3 * min(values):9.2f}{1e3 * max(values):9.2f}")
    print(f"{'ratio, pair by pair':32}{statistics.median(ratios):11.3f}{min(ratios):9.3f}{max(ratios):9.3f}")

    def cold_sluice():
        shutil.rmtree(WORK / "cache", ignore_errors=True)  # what it has measured of this model before
        drop_page_cache()
        return sluice_run(1)[1]

    def cold_pytorch():
        drop_page_cache()
        return pytorch_run()

    os.environ["XDG_CACHE_HOME"] = str(WORK / "cache")
    sluice_run(1)
    pytorch_run()
    pairs = [{"sluice, warm, end of run included": lambda: sluice_run(1)[1], "plain PyTorch, warm": pytorch_run}]
    if os.access(DROP_CACHES, os.W_OK):
        pairs.append({"sluice, cold": cold_sluice, "plain PyTorch, cold": cold_pytorch})
    print(f"\n{'start to first step, whole process':36}{'median s':>9}{'min':>8}{'max':>8}")
    for pair in pairs:  # the two of a pair in turn; the cold ones last, for they leave nothing warm
        values = {name: [] for name in pair}
        for _ in range(arguments.runs):
            for name, run in pair.items():
                values[name].append(run())
        for name, times in values.items():
            print(f"{name:36}{statistics.median(times):9.2f}{min(times):8.2f}{max(times):8.2f}")


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    main()
