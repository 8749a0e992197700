"""Peak memory and speed of training r3d_18, beside PyTorch on the same network and clips.

  .venv/bin/python benchmarks/memory/training.py [--frames 8] [--size 112] [--precision fp32] [--steps 3] [--quick]

Logical batch 16, batch norm frozen, SGD with momentum, 2 threads. PyTorch at microbatches 16 to 1 and with torch.utils.checkpoint, with
its malloc as it comes and pinned down as ours is; sluice at the same microbatches, and at budgets from PyTorch's peaks down to the
smallest that works. Where a microbatch as it comes takes more than 0.7 of PyTorch's peak, the same microbatch within a host_ram of 0.7. Peaks are
VmHWM of the process; "net" is without what the process holds after its imports. --profile: where the bytes of each microbatch go, on both sides.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from measured_runs import MIB, ROOT, clips_of, plan, synthetic_pipeline, train

WORK = ROOT / "build" / "benchmarks" / "memory_training"
PINNED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}


def pytorch(given, microbatch, checkpointed=False, pinned=False, profile=False):
    command = [sys.executable, HERE / "training_peer.py", "--microbatch", str(microbatch), "--frames", str(given.frames), "--size", str(given.size), "--steps", str(given.steps)]
    command += ["--bf16"] if given.precision == "bf16" else []
    command += ["--checkpoint"] if checkpointed else []
    command += ["--profile"] if profile else []
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **(PINNED if pinned else {})})
    return json.loads(done.stdout.splitlines()[-1])


def settings(given):
    return [*clips_of(given.frames, given.size), f"run.precision={given.precision}", f"run.steps={given.steps}"]


def sluice(file, given, *keys):
    run = train(file, *settings(given), *keys)
    return {"peak": run["peak"], "base": run["accounts"]["base"], "seconds": run["seconds"]}


def row(name, figures, against=None):
    text = f"{name:<44}{figures['peak'] / MIB:>9.0f}{(figures['peak'] - figures['base']) / MIB:>9.0f}{figures['seconds']:>9.2f}"
    if against:
        text += f"{figures['peak'] / against['peak']:>9.2f}{figures['seconds'] / against['seconds']:>9.2f}"
    print(text, flush=True)


def profile(file, given):
    """MiB: what autograd saves, tensors at the peak of a pass beside weights and momentum, those, and what else is resident."""
    print(f"{'':<44}{'saved':>9}{'tensors':>9}{'weights':>9}{'else':>9}{'peak':>9}")
    for microbatch in (16, 8, 4, 2, 1):
        peer = pytorch(given, microbatch, profile=True)
        planned = plan(file, *settings(given), f"batch.microbatch={microbatch}", "plan.checkpoint=false")
        weights = planned["accounts"]["parameters"] + planned["accounts"]["optimizer"]
        ours = train(file, *settings(given), f"batch.microbatch={microbatch}", "plan.checkpoint=false")
        kept = sum(segment["kept"] for segment in planned["segments"])
        tensors = planned["accounts"]["gradients"] + planned["accounts"]["activations"]
        for name, figures in (("PyTorch", (peer["saved"], peer["live"], weights, peer["peak"] - peer["live"] - weights, peer["peak"])),
                              ("sluice", (kept, tensors, weights, ours["peak"] - tensors - weights, ours["peak"]))):
            print(f"{name + ', microbatch ' + str(microbatch):<44}" + "".join(f"{bytes / MIB:>9.0f}" for bytes in figures), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="PyTorch's malloc as it comes alone, and three budgets")
    parser.add_argument("--profile", action="store_true", help="where the bytes go, and nothing else")
    given = parser.parse_args()
    file = synthetic_pipeline(WORK)
    if given.profile:
        profile(file, given)
        return
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
        if not isinstance(microbatch, int):
            continue
        ours = sluice(file, given, f"batch.microbatch={microbatch}", "plan.checkpoint=false")
        row(f"sluice, microbatch {microbatch}", ours, peer)
        if ours["peak"] > 0.7 * peer["peak"]:
            within = int(0.7 * peer["peak"])
            row(f"sluice, microbatch {microbatch}, host_ram = {within / MIB:.0f} MiB", sluice(file, given, f"batch.microbatch={microbatch}", f"budget.host_ram={within}B"), peer)
    smallest = plan(file, *settings(given))["smallest_host_ram"]
    least = min(peers.values(), key=lambda peer: peer["peak"])
    row("sluice, the smallest budget", sluice(file, given, f"budget.host_ram={smallest}B"), least)
    budgets = sorted({int(peer["peak"]) for peer in peers.values() if peer["peak"] > smallest}, reverse=True)
    for budget in budgets[::3] if given.quick else budgets:
        same = min((peer for peer in peers.values() if peer["peak"] <= budget), key=lambda peer: peer["seconds"])
        row(f"sluice, host_ram = {budget / MIB:.0f} MiB", sluice(file, given, f"budget.host_ram={budget}B"), same)
    print(f"smallest budget {smallest / MIB:.0f} MiB, the least of PyTorch {least['peak'] / MIB:.0f} MiB: {smallest / least['peak']:.2f}")


if __name__ == "__main__":
    main()
