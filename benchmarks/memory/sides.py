"""Both sides of a row: PyTorch in training_peer.py and sluice, on the same clips; and the table that rows are printed in.

    case = Case(frames=8, size=112, precision="fp32")
    theirs = case.pytorch(microbatch=16)                      # {"peak", "base", "floor", "seconds"}
    ours = case.sluice("batch.microbatch=16")                 # {"peak", "base", "seconds"}

Bytes and seconds of a step. `base` is what a side holds after its imports, `floor` weights, gradients and momentum.
"""
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from clips import write_clips
from measured_runs import MIB, ROOT, Failed, clips_of, plan, synthetic_pipeline, train

WORK = ROOT / "build" / "benchmarks" / "memory_training"
BATCH = 16
NAME = 52  # columns of a row's name
PINNED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}


def run_peer(*words, pinned=False):
    """`pinned`: malloc set as sluice sets its own."""
    command = [sys.executable, HERE / "training_peer.py", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **(PINNED if pinned else {})})
    if done.returncode:
        raise Failed(f"training_peer.py {' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None


@functools.cache
def clips_once(samples, frames, size):
    return write_clips(WORK, samples, frames, size)


@dataclasses.dataclass(frozen=True)
class Case:
    """Steps of r3d_18 over 16 clips."""
    frames: int = 8
    size: int = 112
    precision: str = "fp32"
    steps: int = 3
    group: int = 0  # of batch norm: 0 frozen, the whole batch for "batch"

    def __str__(self):
        return f"{self.frames} x {self.size} x {self.size}, {self.precision}, batch norm {self.batch_norm()}"

    def batch_norm(self):
        return '"frozen"' if not self.group else '"batch"' if self.group == BATCH else f"{{ group = {self.group} }}"

    def clips(self):
        return clips_once(BATCH * self.steps, self.frames, self.size)

    def peer_words(self, clips, microbatch, checkpointed=False):
        words = ["--clips", clips, "--batch", BATCH, "--microbatch", microbatch, "--steps", self.steps]
        words += ["--batch-norm", "training"] if self.group else []
        words += ["--bf16"] if self.precision == "bf16" else []
        return words + (["--checkpoint"] if checkpointed else [])

    def pytorch(self, microbatch, checkpointed=False, pinned=False, profile=False):
        return run_peer(*self.peer_words(self.clips(), microbatch, checkpointed), *(["--profile"] if profile else []), pinned=pinned)

    def keys(self):
        return [*clips_of(self.frames, self.size), f"run.precision={self.precision}", f"run.steps={self.steps}", f"data.train={BATCH * self.steps}", f"batch.size={BATCH}", f"model.batch_norm={self.batch_norm()}"]

    def sluice(self, *keys):
        run = train(synthetic_pipeline(WORK), *self.keys(), *keys)
        return {"peak": run["peak"], "base": run["accounts"]["base"], "seconds": run["seconds"]}

    def plan(self, *keys):
        return plan(synthetic_pipeline(WORK), *self.keys(), *keys)


def in_turn(rounds, theirs, ours):
    """Medians of both sides over rounds in which each has its turn, the other first; and of the ratios of their times, round by round."""
    pairs = [(theirs(), ours()) for _ in range(rounds)]
    sides = [{key: statistics.median(side[key] for side in one) for key in one[0]} for one in zip(*pairs)]
    return *sides, statistics.median(ours["seconds"] / theirs["seconds"] for theirs, ours in pairs)


class Table:
    """Rows as they are measured, printed at once and kept for the verdict. One that fails says so, and the next one follows."""

    def __init__(self, file=None):
        self.rows, self.file, self.block = [], file, ""

    def title(self, text, columns):
        self.block = text.partition(";")[0]
        print(f"\n{text}\n{'':<{NAME}}{columns}", flush=True)

    def add(self, row, text):
        self.rows.append(row)
        print(f"{row['name']:<{NAME}}{text}", flush=True)
        if self.file:
            self.file.write_text(json.dumps(self.rows, indent=1, default=str), encoding="utf-8")

    def attempt(self, name, measure):
        """What `measure` returns, or nothing where it fails."""
        try:
            return measure()
        except (Failed, OSError, KeyError, ValueError) as error:
            print(f"{name:<{NAME}}failed: {' '.join(str(error).split())[-300:]}", flush=True)
            self.rows.append({"name": name, "block": self.block, "failed": str(error)})
            return None

    def memory(self, name, figures, **about):
        """A row of training: bytes, net of the base, above the floor; beside `against` the ratios."""
        against = about.pop("against", None)
        net = figures["peak"] - figures["base"]
        floor = figures.get("floor") or (against or {}).get("floor", 0)
        row = {"name": name, **figures, "floor": floor, "net": net, "above": net - floor, **about}
        text = f"{figures['peak'] / MIB:>8.0f}{net / MIB:>8.0f}{row['above'] / MIB:>8.0f}{figures['seconds']:>9.2f}{1 / figures['seconds']:>9.3f}"
        if against:
            row["against"] = against["name"]
            row["peak_ratio"], row["net_ratio"] = figures["peak"] / against["peak"], net / against["net"]
            row["time_ratio"] = figures.get("time_ratio", figures["seconds"] / against["seconds"])
            text += f"{row['peak_ratio']:>8.2f}{row['net_ratio']:>8.2f}{row['time_ratio']:>8.2f}  {against['name'] if about.get('budget') else ''}"
        self.add(row, text)
        return row


MEMORY_COLUMNS = f"{'peak':>8}{'net':>8}{'above':>8}{'s/step':>9}{'steps/s':>9}{'peak':>8}{'net':>8}{'time':>8}"
