"""The claims of docs/claims.md beside what this machine measures: one row of the page after the other, one table.

  .venv/bin/python benchmarks/claims/run.py [--quick] [--only precision,checkpoint,...] [--json FILE]

`process` is the resident peak (VmHWM) of a run of two steps; `tensors` and `activations` are what `sluice plan` measured for the same settings,
without what a run keeps for reuse. Networks are r3d_18 unless named, clips 8 x 112 x 112, batch norm frozen. `as claimed` is a change within 5 points
of the claim (where bytes were claimed: a quarter of them), `more` and `less` one that goes further in the claim's direction or not so far. Times are
taken in turn, three of each; they need a machine that does nothing else, memory does not. Needs 5 GiB of memory, and torch and numpy for the row loaders.
"""
import argparse
import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from measured_runs import MIB, ROOT, SLUICE, clips_of, plan, run_program, synthetic_pipeline, train

WORK = ROOT / "build" / "benchmarks" / "claims"
GB = 10**9
WHOLE = ["plan.checkpoint=false"]
SLOW_R50 = 'model.backbone={ plugin = "backbone.slow_r50" }'
TENSORS = ("parameters", "gradients", "optimizer", "activations")


class Bench:
    def __init__(self, quick):
        self.quick = quick
        self.batch = 4 if quick else 16
        self.file = synthetic_pipeline(WORK)
        self.figures, self.done = [], {}

    def memory(self, *keys):
        if keys not in self.done:
            accounts = plan(self.file, *keys)["accounts"]
            self.done[keys] = {"process": train(self.file, *keys, "run.steps=2")["peak"], "tensors": sum(accounts[name] for name in TENSORS), "activations": accounts["activations"]}
        return self.done[keys]

    def whole(self, batch, *keys):
        """The batch in one piece, nothing computed twice unless the keys say so."""
        return self.memory(*WHOLE, f"batch.size={batch}", f"batch.microbatch={batch}", *keys)

    def add(self, what, measure, before, after, claimed, unit=MIB, bytes_claimed=False, tolerance=None):
        """`claimed`: least and most change, as a share, or in bytes of the difference."""
        change = after - before if bytes_claimed else after / before - 1
        low, high = min(claimed), max(claimed)
        near = tolerance if tolerance is not None else max(abs(low), abs(high)) / 4 if bytes_claimed else 0.05
        if low - near <= change <= high + near:
            beside = "as claimed"
        else:
            beside = "more" if (change < low) == (low < 0) else "less"
        figure = {"what": what, "measure": measure, "before": before, "after": after, "change": change, "claimed": [low, high], "beside": beside}
        self.figures.append(figure)

        def text(value):
            return f"{value / MIB:+.0f} MiB" if bytes_claimed else f"{100 * value:+.1f} %"

        def number(value):
            return f"{value / MIB:.0f} MiB" if unit == MIB else f"{value:.2f} {unit}"

        span = text(low) if low == high else f"{text(low)} to {text(high)}"
        print(f"  {what:<58}{measure:<13}{number(before):>11}{number(after):>11}{text(change):>12}   {span:<24}{beside}", flush=True)

    def compare(self, what, before, after, *claimed):
        for measure in before:
            self.add(what, measure, before[measure], after[measure], claimed)

    def seconds_a_clip(self, settings):
        """Medians over rounds in which every setting has its turn. `settings`: name to (clips of a batch, keys)."""
        rounds = {name: [] for name in settings}
        for _ in range(1 if self.quick else 3):
            for name, (clips, keys) in settings.items():
                rounds[name].append(train(self.file, *WHOLE, f"batch.size={clips}", *keys, "run.steps=3")["seconds"] / clips)
        return {name: statistics.median(values) for name, values in rounds.items()}


def precision(bench):
    """mixed precision halves the memory"""
    for clips in (1, 4):
        before, after = bench.whole(clips), bench.whole(clips, "run.precision=bf16")
        fixed = 1 - before["activations"] / before["tensors"]
        bench.compare(f"bf16 for fp32, batch {clips} ({100 * fixed:.0f} % of the tensors fixed)", before, after, -0.5)


def checkpoint(bench):
    """checkpointing saves 30 %, 30 to 50 %"""
    batch = bench.batch
    before = bench.whole(batch)
    bench.compare(f"every segment twice, batch {batch}", before, bench.memory(f"batch.size={batch}", f"batch.microbatch={batch}", "plan.checkpoint=true"), -0.3, -0.5)
    segments = plan(bench.file, f"batch.size={batch}", f"batch.microbatch={batch}")["segments"]
    least = min(segments, key=lambda segment: segment["kept"])
    share = least["kept"] / sum(segment["kept"] for segment in segments)
    after = bench.memory(f"batch.size={batch}", f"batch.microbatch={batch}", f'plan.checkpoint=["{least["name"]}"]')
    bench.compare(f"{least['name']} alone twice ({100 * share:.1f} % of what is kept)", before, after, -0.3, -0.5)


def accumulation(bench):
    """accumulation saves 75 %"""
    batch = bench.batch
    bench.compare(f"microbatch {batch // 4} of batch {batch}", bench.whole(batch), bench.memory(*WHOLE, f"batch.size={batch}", f"batch.microbatch={batch // 4}"), -0.75)


def together(bench):
    """all together go from 100 % to 12.5 %, 14 GB to 2 GB"""
    batch = bench.batch
    after = bench.memory("plan.checkpoint=true", f"batch.size={batch}", f"batch.microbatch={batch // 4}", "run.precision=bf16")
    bench.compare(f"bf16, every segment twice, microbatch {batch // 4} of {batch}", bench.whole(batch), after, -0.875, 2 / 14 - 1)


def speed(bench):
    """accumulation costs no speed, 0.9 times, half the batch takes twice as long; fp16 is faster by 20 to 30 %, 30 to 50 %"""
    batch = 4 if bench.quick else 8
    whole = [f"batch.microbatch={batch}"]
    times = bench.seconds_a_clip({
        "whole": (batch, whole),
        "quarters": (batch, [f"batch.microbatch={batch // 4}"]),
        "half": (batch // 2, [f"batch.microbatch={batch // 2}"]),
        "bf16": (batch, [*whole, "run.precision=bf16"]),
    })
    bench.add(f"microbatch {batch // 4} of batch {batch}", "time a clip", times["whole"], times["quarters"], (0, 1 / 0.9 - 1), "s")
    bench.add(f"batch {batch // 2} for {batch}", "time a clip", times["whole"], times["half"], (1,), "s")
    bench.add(f"bf16 for fp32, batch {batch}", "time a clip", times["whole"], times["bf16"], (1 / 1.5 - 1, 1 / 1.2 - 1), "s")


def loaders(bench):
    """each loader process fewer saves 2 GB"""
    clips, frames, size, batch = (16 if bench.quick else 48), 64, 224, 4
    keys = ["budget.host_ram=8GiB", f"data.train={clips}", f"batch.size={batch}", *clips_of(frames, size)]
    shape = ["--clips", clips, "--frames", frames, "--size", size, "--batch", batch]
    sides = {
        "sluice": lambda workers: [SLUICE, "data", "bench", bench.file, "--json", *keys, f"budget.workers={workers}"],
        "DataLoader": lambda workers: [sys.executable, HERE / "loader_peer.py", *shape, "--workers", workers],
    }
    for name, command in sides.items():
        peaks = {workers: run_program(command(workers), True)[1] for workers in ((1, 2, 4) if name == "sluice" else (0, 1, 2, 4))}
        counts = sorted(peaks, reverse=True)
        for more, fewer in zip(counts, counts[1:]):
            bench.add(f"{name}: {fewer} workers for {more}, clips of {frames} x {size} x {size}", "PSS of all", peaks[more], peaks[fewer], (-2 * GB * (more - fewer),), bytes_claimed=True)


def color_jitter(bench):
    """without ColorJitter 1 to 2 GB of the card are free"""
    # The card holds the tensors, nothing else.
    jitter = 'stage=[{plugin="synthetic.clip", frames=8, size=[112, 112]}, {plugin="augment.color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1}]'
    before, after = bench.whole(4, jitter), bench.whole(4)
    for measure in ("tensors", "process"):
        bench.add("without augment.color_jitter, batch 4", measure, before[measure], after[measure], (-2 * GB, -1 * GB), bytes_claimed=True)


def shape(bench):
    """112 x 112 saves 75 %, 160 x 160 saves 48 %, 8 of 16 frames save 50 %"""
    clips = 2
    largest = bench.whole(clips, SLOW_R50, *clips_of(8, 224))
    bench.compare(f"slow_r50, {clips} clips: 8 x 112 x 112 for 8 x 224 x 224", largest, bench.whole(clips, SLOW_R50, *clips_of(8, 112)), -0.75)
    bench.compare(f"slow_r50, {clips} clips: 8 x 160 x 160 for 8 x 224 x 224", largest, bench.whole(clips, SLOW_R50, *clips_of(8, 160)), -0.48)
    size = 112 if bench.quick else 224
    bench.compare(f"slow_r50, {clips} clips: 8 for 16 x {size} x {size}", bench.whole(clips, SLOW_R50, *clips_of(16, size)), bench.whole(clips, SLOW_R50, *clips_of(8, size)), -0.5)


def batch(bench):
    """batch 16 takes about 18 GB, batch 20 about 22.5 GB"""
    sizes = (2, 4, 5) if bench.quick else (4, 8, 16, 20)
    for name, keys in (("r3d_18", []), ("slow_r50", [SLOW_R50])):
        found = {size: bench.whole(size, *keys) for size in sizes}
        fewer, more = sizes[-2:]
        for measure in found[more]:
            values = [found[size][measure] for size in sizes[:-1]]
            slope, start = statistics.linear_regression(sizes[:-1], values)
            bench.add(f"{name}: batch {more} for {fewer}", measure, found[fewer][measure], found[more][measure], (22.5 / 18 - 1,))
            bench.add(f"{name}: the line through {', '.join(map(str, sizes[:-1]))}, at {more}", measure, found[more][measure], start + slope * more, (0,), tolerance=0.01)


def long_video(bench):
    """a video of 5,000 frames in chunks of 1,000 saves 80 % of what loading takes"""
    file = WORK / "long_video.toml"
    file.write_text(f'extends = "{ROOT / "pipelines" / "long_video.toml"}"\n', encoding="utf-8")
    whole, size = (1500, 64) if bench.quick else (5000, 96)

    def run(frames, chunk):
        done = train(file, "run.steps=2", f"data.root={WORK / 'videos'}", f"data.frames={frames}", f"data.size={size}", "data.train=6", "data.val=0", "batch.size=1",
                     "budget.host_ram=8GiB", "budget.workers=1", f"plan.chunk={chunk}")
        return {"samples": done["accounts"]["samples"], "process": done["peak"]}

    uncut, small = run(whole, whole), run(whole, 64)
    bench.compare(f"{whole} frames of {size} x {size}: chunks of {whole // 5} for the whole", uncut, run(whole, whole // 5), -0.8)
    bench.compare(f"{whole} frames of {size} x {size}: chunks of 64 for the whole", uncut, small, -0.8)
    bench.compare(f"chunks of 64: {whole // 2} frames for {whole}", small, run(whole // 2, 64), 0)


ROWS = {row.__name__: row for row in (precision, checkpoint, accumulation, together, speed, loaders, color_jitter, shape, batch, long_video)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 4 instead of 16, a round of times instead of three, a shorter video")
    parser.add_argument("--only", metavar="ROW,...", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every figure here: bytes and seconds")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    bench, figures = Bench(given.quick), {}
    print(f"  {'':<58}{'':<13}{'before':>11}{'after':>11}{'change':>12}   claimed")
    for name in names:
        print(f"{name}: {ROWS[name].__doc__}", flush=True)
        bench.figures = figures[name] = []
        ROWS[name](bench)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
