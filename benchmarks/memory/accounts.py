"""Do the accounts add up to what the process holds, and does the plan foresee it?

  .venv/bin/python benchmarks/memory/accounts.py [--backbones r3d,r3d_18,...] [--quick]

Each backbone at three input sizes under eight settings (microbatch whole or half, segments once or twice, one or four workers): three steps
and an evaluation of 4 clips. `accounts` is the sum of the accounts at the end of the run, `plan` what `sluice plan` foresees (the share of
the samples included, the reserve not), both in parts of the resident peak (VmHWM). M5 asks for a plan of at least 1 and at most 1.05 at the
median, M9 for accounts between 0.97 and 1.03.
"""
import argparse
import itertools
import json
import pathlib
import statistics
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from measured_runs import MIB, ROOT, clips_of, plan, synthetic_pipeline, train

WORK = ROOT / "build" / "benchmarks" / "memory_accounts"

BACKBONES = {
    "r3d": '{ plugin = "backbone.r3d", depth = 10, width = 16 }',
    "r3d_18": '{ plugin = "backbone.r3d_18" }',
    "mc3_18": '{ plugin = "backbone.mc3_18" }',
    "r2plus1d_18": '{ plugin = "backbone.r2plus1d_18" }',
    "slow_r50": '{ plugin = "backbone.slow_r50" }',
}
SIZES = [(8, 64), (8, 112), (16, 112)]

SETTINGS = ["budget.host_ram=6GiB", "data.train=16", "data.val=4", "batch.size=4"]


def measure(file, backbone, frames, size, settings):
    keys = [*SETTINGS, f"model.backbone={BACKBONES[backbone]}", *clips_of(frames, size), *settings]
    foreseen = plan(file, *keys)["accounts"]
    run = train(file, *keys)
    return {"resident": run["resident"], "accounts": sum(run["accounts"].values()), "plan": sum(v for k, v in foreseen.items() if k not in ("reserve", "unused")), "by_account": run["accounts"]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--backbones", default=",".join(BACKBONES))
    arguments.add_argument("--quick", action="store_true", help="two settings and two sizes")
    arguments.add_argument("--json", type=pathlib.Path, help="write every figure here")
    options = arguments.parse_args()
    settings = [[f"batch.microbatch={m}", f"plan.checkpoint={c}", f"budget.workers={w}"] for m, c, w in itertools.product((4, 2), ("false", "true"), (1, 4))]
    sizes = SIZES
    if options.quick:
        settings, sizes = settings[::7], sizes[:2]
    file = synthetic_pipeline(WORK)
    rows = []
    print(f"{'':<36} {'resident':>9} {'accounts':>9} {'plan':>6}")
    for backbone, (frames, size) in itertools.product(options.backbones.split(","), sizes):
        for words in settings:
            row = measure(file, backbone, frames, size, words)
            rows.append({"backbone": backbone, "frames": frames, "size": size, "settings": words, **row})
            short = " ".join(word.split("=")[1] for word in words)
            print(f"{backbone:<12} {frames}x{size:<4} {short:<14} {row['resident'] / MIB:>9.0f} {row['accounts'] / row['resident']:>9.3f} {row['plan'] / row['resident']:>6.3f}", flush=True)
    for what in ("accounts", "plan"):
        ratios = [row[what] / row["resident"] for row in rows]
        print(f"{what}: least {min(ratios):.3f}, median {statistics.median(ratios):.3f}, most {max(ratios):.3f}; {sum(abs(r - 1) <= 0.03 for r in ratios)} of {len(ratios)} within 3 %")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
