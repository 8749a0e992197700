"""Peak memory and speed of training r3d_18, beside PyTorch on the same network and clips.

  .venv/bin/python benchmarks/memory/training.py [--frames 8] [--size 112] [--precision fp32] [--steps 3] [--quick]

Logical batch 16, batch norm frozen, SGD with momentum, 2 threads. PyTorch at microbatches 16 to 1 and with torch.utils.checkpoint, with
its malloc as it comes and pinned down as ours is; sluice at the same microbatches, and at budgets from PyTorch's peaks down to the
smallest that works. Peaks are VmHWM of the process; "net" is without what the process holds after its imports.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "release"
WORK = ROOT / "build" / "benchmarks" / "memory_training"
MIB = 1 << 20
PINNED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}

PIPELINE = """[run]
name = "r3d_18"
dir = "{work}/run"
steps = {steps}
seed = 7
precision = "{precision}"
[budget]
host_ram = "8GiB"
workers = 1
compute_threads = 2
[plugins]
path = ["{plugins}"]
[data]
plugin = "source.synthetic"
train = 160
val = 0
[[stage]]
plugin = "synthetic.clip"
frames = {frames}
size = [{size}, {size}]
[batch]
size = 16
[model]
plugin = "model.recognizer"
backbone = {{ plugin = "backbone.r3d_18" }}
head = {{ plugin = "head.linear" }}
batch_norm = "frozen"
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.0001
momentum = 0.9
"""


def pytorch(given, microbatch, checkpointed=False, pinned=False):
    command = [sys.executable, HERE / "training_peer.py", "--microbatch", str(microbatch), "--frames", str(given.frames), "--size", str(given.size), "--steps", str(given.steps)]
    command += ["--bf16"] if given.precision == "bf16" else []
    command += ["--checkpoint"] if checkpointed else []
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **(PINNED if pinned else {})})
    return json.loads(done.stdout.splitlines()[-1])


def sluice(*overrides):
    shutil.rmtree(WORK / "run", ignore_errors=True)
    with open(WORK / "out.txt", "wb") as out:
        process = subprocess.Popen([BUILD / "bin" / "sluice", "train", WORK / "r3d_18.toml", *overrides], stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status != 0:
        raise RuntimeError((WORK / "out.txt").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (WORK / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    return {"peak": usage.ru_maxrss * 1024, "base": steps[-1]["memory"]["base"], "seconds": statistics.median(row["time"]["waiting"] + row["time"]["computing"] for row in steps[1:])}


def row(name, figures, against=None):
    text = f"{name:<44}{figures['peak'] / MIB:>9.0f}{(figures['peak'] - figures['base']) / MIB:>9.0f}{figures['seconds']:>9.2f}"
    if against:
        text += f"{figures['peak'] / against['peak']:>9.2f}{figures['seconds'] / against['seconds']:>9.2f}"
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="PyTorch's malloc as it comes alone, and three budgets")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "r3d_18.toml").write_text(PIPELINE.format(work=WORK, plugins=BUILD / "tests" / "plugins", **vars(given)), encoding="utf-8")
    print(f"r3d_18, 16 clips of {given.frames} x {given.size} x {given.size}, {given.precision}; MiB, seconds a step, ratios to PyTorch at the same microbatch")
    print(f"{'':<44}{'peak':>9}{'net':>9}{'s/step':>9}{'peak':>9}{'time':>9}")
    peers = {}
    for microbatch in (16, 8, 4, 2, 1):
        peers[microbatch] = pytorch(given, microbatch)
        row(f"PyTorch, microbatch {microbatch}", peers[microbatch])
        if not given.quick:
            row(f"PyTorch, microbatch {microbatch}, malloc pinned", pytorch(given, microbatch, pinned=True))
    for microbatch in (16, 1):
        checkpointed = pytorch(given, microbatch, checkpointed=True)
        row(f"PyTorch, microbatch {microbatch}, checkpoint", checkpointed)
        peers[f"{microbatch} checkpointed"] = checkpointed
    for microbatch, peer in peers.items():
        if isinstance(microbatch, int):
            row(f"sluice, microbatch {microbatch}", sluice(f"batch.microbatch={microbatch}", "plan.checkpoint=false"), peer)
    plan = json.loads(subprocess.run([BUILD / "bin" / "sluice", "plan", WORK / "r3d_18.toml", "--json"], check=True, capture_output=True, text=True).stdout)
    smallest = plan["smallest_host_ram"]
    least = min(peers.values(), key=lambda peer: peer["peak"])
    row("sluice, the smallest budget", sluice(f"budget.host_ram={smallest}B"), least)
    budgets = sorted({int(peer["peak"]) for peer in peers.values() if peer["peak"] > smallest}, reverse=True)
    for budget in budgets[::3] if given.quick else budgets:
        same = min((peer for peer in peers.values() if peer["peak"] <= budget), key=lambda peer: peer["seconds"])
        row(f"sluice, host_ram = {budget / MIB:.0f} MiB", sluice(f"budget.host_ram={budget}B"), same)
    print(f"smallest budget {smallest / MIB:.0f} MiB, the least of PyTorch {least['peak'] / MIB:.0f} MiB: {smallest / least['peak']:.2f}")


if __name__ == "__main__":
    main()
