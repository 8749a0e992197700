"""A budget that is cut by 40 % in mid-run and restored: how many failed steps, and does the speed come back?

  .venv/bin/python benchmarks/memory/recovery.py [--frames 8] [--size 64] [--width 16] [--steps 80] [--threads 1]

A run whose tensors have just enough (budget.device_memory) for a plan that computes nothing twice. During a quarter of its steps a fixture
(schedule.hog) holds 40 % of it. Seconds of a step (median) before the cut, during it, and once the plan is back; M7 asks for at
most two failed steps, at least 95 % of the throughput, and the losses of a run that was left alone.
"""
import argparse
import json
import pathlib
import statistics
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from measured_runs import MIB, ROOT, clips_of, plan, synthetic_pipeline, train

WORK = ROOT / "build" / "benchmarks" / "memory_recovery"


def run(file, *keys):
    """Rows of the log by kind."""
    train(file, *keys)
    rows = [json.loads(line) for line in (file.parent / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {kind: [row for row in rows if row["kind"] == kind] for kind in ("step", "plan", "warning")}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, value in (("frames", 8), ("size", 64), ("width", 16), ("steps", 80), ("threads", 1)):
        arguments.add_argument(f"--{key}", type=int, default=value)
    options = arguments.parse_args()
    file = synthetic_pipeline(WORK)
    backbone = f'{{ plugin = "backbone.r3d", depth = 18, width = {options.width} }}'
    keys = [f"model.backbone={backbone}", "batch.size=8", f"run.steps={options.steps}", f"budget.compute_threads={options.threads}", *clips_of(options.frames, options.size)]
    keys += ["plan.checkpoint=false", "plan.offload=false"]
    foreseen = plan(file, *keys, "batch.microbatch=8")
    share = sum(foreseen["accounts"][account] for account in ("parameters", "gradients", "optimizer", "activations")) * 21 // 20
    budget = f"budget.device_memory={share}"
    planned = plan(file, *keys, budget)["plan"]["microbatch"]
    begin, end = options.steps // 4 + 1, options.steps // 2 + 1
    hog = ["schedule.plugin=schedule.hog", f"schedule.kib={share * 4 // 10 // 1024}", f"schedule.from={begin}", f"schedule.until={end}"]
    alone, cut = run(file, *keys, budget), run(file, *keys, budget, *hog)

    failed = sum("out of memory, the step is undone" in row["text"] for row in cut["warning"])
    back = cut["plan"][-1]["step"] if cut["plan"] else 0
    whole = bool(cut["plan"]) and cut["plan"][-1]["microbatch"] == planned

    def seconds(rows, first, last):
        return statistics.median(row["time"]["computing"] for row in rows if first <= row["step"] < last)

    before, during, after = seconds(cut["step"], 3, begin), seconds(cut["step"], begin + 1, end), seconds(cut["step"], back + 1, options.steps + 1)
    apart = max(abs(one["loss"] - other["loss"]) / other["loss"] for one, other in zip(cut["step"], alone["step"]))
    print(f"{budget}, {planned} at a time; {share * 4 // 10 / MIB:.0f} MiB held from step {begin} to {end - 1}")
    for row in cut["plan"]:
        print(f"  from step {row['step']}: {row['microbatch']} at a time")
    print(f"failed steps {failed} (M7: <= 2); the plan is back: {'yes' if whole else 'no'}, from step {back}")
    print(f"seconds a step: {before:.3f} before, {during:.3f} with the cut, {after:.3f} after; throughput {before / after:.3f} of before (M7: >= 0.95)")
    print(f"losses off from those of a run left alone by at most {apart:.1e}")


if __name__ == "__main__":
    main()
