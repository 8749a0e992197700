"""Peak memory, speed and gradients of training r3d_18, beside PyTorch on the same network and clips, and what was asked of them.

  .venv/bin/python benchmarks/memory/training.py [--only training,norms,gradients,long] [--frames 8,16] [--precision fp32,bf16] [--runs 3] [--quick]

Without options all of it: hours, on a machine that does nothing else. Logical batch 16, SGD with momentum, 2 threads. For each number of frames and precision:

  training   PyTorch at microbatches 16 to 1, each with torch.utils.checkpoint too, with its malloc as it comes and pinned down as ours is. sluice at the
             same microbatches, and where one takes more than 0.7 of PyTorch's peak once more within a host_ram of 0.7; at budgets from
             PyTorch's peaks down to the smallest that works, each beside the fastest that PyTorch does in it. Batch norm frozen.
  norms      the same with statistics over the batch, and over groups of 4, beside PyTorch's microbatches of 16 and 4 in training mode.
  gradients  the difference to one backward pass in fp64 (gradients.py).
  long       peaks by the length of the videos (long_clips.py).

Peaks are VmHWM of the process in MiB; "net" is without what the process holds after its imports, "above" net without weights, gradients and momentum;
a step is the median without the first. --runs N takes both sides of a ratio in turn N times and prints medians. A row that fails says why, and the next
one follows. Ends with a line for each figure that was asked for. --profile: where the bytes of each microbatch go, on both sides, and nothing else.
Needs torch, numpy, safetensors and ffmpeg.
"""
import argparse
import itertools
import pathlib
import time

import gradients
import long_clips
from measured_runs import MIB, synthetic_pipeline, train
from sides import BATCH, MEMORY_COLUMNS, WORK, Case, Table, in_turn
from verdict import SMALL_PEAK, verdict

PARTS = ("training", "norms", "gradients", "long")
MICROBATCHES = (16, 8, 4, 2, 1)
# Seconds of a step here, 8 x 112 x 112, fp32, 2 cores; for the estimate alone.
STEP = 14


class Training:
    """The rows of a case."""

    def __init__(self, table, case, given, part="training"):
        self.table, self.case, self.given = table, case, given
        self.about = {"part": part, "case": str(case), "frames": case.frames, "precision": case.precision}
        self.peers = []

    def pytorch(self, microbatch, checkpointed=False, pinned=False):
        name = f"PyTorch, microbatch {microbatch}" + (", checkpoint" if checkpointed else "") + (", malloc pinned" if pinned else "")
        if figures := self.table.attempt(name, lambda: self.case.pytorch(microbatch, checkpointed, pinned)):
            row = self.table.memory(name, figures, side="PyTorch", microbatch=microbatch, checkpointed=checkpointed, pinned=pinned, **self.about)
            if not pinned:
                self.peers.append(row)

    def sluice(self, name, peer, *keys, **about):
        def measure():
            if self.given.runs == 1:
                return self.case.sluice(*keys)
            _, ours, ratio = in_turn(self.given.runs, lambda: self.case.pytorch(peer["microbatch"], peer["checkpointed"]), lambda: self.case.sluice(*keys))
            return {**ours, "time_ratio": ratio}

        if figures := self.table.attempt(name, measure):
            return self.table.memory(name, figures, side="sluice", against=peer, **about, **self.about)
        return None

    def same_microbatch(self, microbatch, peer):
        name = f"sluice, microbatch {microbatch}"
        pin = f"batch.microbatch={microbatch}"
        ours = self.sluice(name, peer, pin, "plan.checkpoint=false", microbatch=microbatch, plain=True)
        if not ours or ours["peak_ratio"] > SMALL_PEAK:
            within = int(SMALL_PEAK * peer["peak"])
            self.sluice(f"{name}, host_ram = {within / MIB:.0f} MiB", peer, pin, f"budget.host_ram={within}B", microbatch=microbatch)

    def budget(self, name, peer, bytes_, **about):
        return self.sluice(name, peer, f"budget.host_ram={bytes_}B", budget=bytes_, **about)

    def budgets(self):
        """The smallest, beside the least of PyTorch, and PyTorch's peaks, each beside its fastest within that."""
        smallest = self.table.attempt("the smallest budget", lambda: self.case.plan()["smallest_host_ram"])
        if not smallest or not self.peers:
            return
        apart = []
        for peer in sorted(self.peers, key=lambda row: -row["peak"]):
            if peer["peak"] > smallest and (not apart or peer["peak"] < 0.98 * apart[-1]):
                apart.append(int(peer["peak"]))
        for budget in apart[::3] if self.given.quick else apart:
            same = min((peer for peer in self.peers if peer["peak"] <= budget), key=lambda peer: peer["seconds"], default=None)
            if same:
                self.budget(f"sluice, host_ram = {budget / MIB:.0f} MiB", same, budget, same_memory=True)
        self.budget(f"sluice, host_ram = {smallest / MIB:.0f} MiB, the smallest", min(self.peers, key=lambda row: row["peak"]), smallest, smallest=True)

    def rows(self, microbatches, checkpointed):
        self.table.title(f"r3d_18, {BATCH} clips of {self.case}; MiB, and parts of PyTorch's at the same microbatch or, where there is a budget, of the row that is named", MEMORY_COLUMNS)
        for pinned in (False,) if self.given.quick or self.case.group else (False, True):
            for microbatch in microbatches:
                self.pytorch(microbatch, pinned=pinned)
            for microbatch in checkpointed:
                self.pytorch(microbatch, checkpointed=True, pinned=pinned)
        for peer in [row for row in self.peers if not row["checkpointed"]]:
            self.same_microbatch(peer["microbatch"], peer)
        self.budgets()


def cases(given):
    return [Case(frames=frames, size=given.size, precision=precision, steps=given.steps) for frames, precision in itertools.product(given.frames, given.precision)]


def norms(case, quick):
    return [Case(case.frames, case.size, case.precision, case.steps, group) for group in ((BATCH,) if quick else (BATCH, 4))]


def minutes(given):
    """A guess, from the steps that there are."""
    total = 0.0
    for case in cases(given):
        step = STEP * case.frames / 8 * (case.size / 112) ** 2 / (2 if case.precision == "bf16" else 1) + 1
        steps = 0
        if "training" in given.only:
            steps += case.steps * ((7 + 7 + 4 if given.quick else 20 + 8 + 9) + (2 * 14 * (given.runs - 1)))
        if "norms" in given.only:
            steps += case.steps * 6 * len(norms(case, given.quick)) * given.runs
        if "gradients" in given.only:
            steps += sum(22 if not each.group else 12 for each in gradients.cases(case.frames, case.size, case.precision, given.quick))
        total += steps * step
    if "long" in given.only:
        total += 180 * (given.size / 112) ** 2
    return total / 60


def profile(table, case):
    """MiB: what autograd saves, tensors at the peak of a pass beside weights and momentum, those, and what else is resident."""
    table.title(f"r3d_18, {case}", f"{'saved':>9}{'tensors':>9}{'weights':>9}{'else':>9}{'peak':>9}")
    for microbatch in MICROBATCHES:
        keys = [f"batch.microbatch={microbatch}", "plan.checkpoint=false"]
        peer = table.attempt(f"PyTorch, microbatch {microbatch}", lambda m=microbatch: case.pytorch(m, profile=True))
        planned = table.attempt(f"plan, microbatch {microbatch}", lambda k=keys: case.plan(*k))
        ours = table.attempt(f"sluice, microbatch {microbatch}", lambda k=keys: train(synthetic_pipeline(WORK), *case.keys(), *k))
        if not peer or not planned or not ours:
            continue
        weights = planned["accounts"]["parameters"] + planned["accounts"]["optimizer"]
        kept = sum(segment["kept"] for segment in planned["segments"])
        tensors = planned["accounts"]["gradients"] + planned["accounts"]["activations"]
        for name, figures in (("PyTorch", (peer["saved"], peer["live"], weights, peer["peak"] - peer["live"] - weights, peer["peak"])),
                              ("sluice", (kept, tensors, weights, ours["peak"] - tensors - weights, ours["peak"]))):
            table.add({"part": "profile", "name": f"{name}, microbatch {microbatch}", "figures": figures}, "".join(f"{bytes_ / MIB:>9.0f}" for bytes_ in figures))


def listed(of, allowed):
    def parse(text):
        values = [of(word) for word in text.split(",")]
        if wrong := [value for value in values if allowed and value not in allowed]:
            raise argparse.ArgumentTypeError(f"{wrong[0]} is none of {', '.join(map(str, allowed))}")
        return values
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=listed(str, PARTS), default=list(PARTS), help="parts, separated by commas")
    parser.add_argument("--frames", type=listed(int, ()), default=[8, 16])
    parser.add_argument("--precision", type=listed(str, ("fp32", "bf16")), default=["fp32", "bf16"])
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1, help="rounds in which the two sides of a ratio have their turn")
    parser.add_argument("--quick", action="store_true", help="PyTorch's malloc as it comes alone, checkpoint at microbatches 16 and 1, fewer budgets and groups")
    parser.add_argument("--json", type=pathlib.Path, help="write every row here, as it is measured")
    parser.add_argument("--profile", action="store_true", help="where the bytes go, and nothing else")
    given = parser.parse_args()
    table = Table(given.json)
    if given.profile:
        for case in cases(given):
            profile(table, case)
        return
    print(f"about {minutes(given):.0f} minutes on 2 cores", flush=True)
    begin = time.monotonic()
    for case in cases(given):
        if "training" in given.only:
            Training(table, case, given).rows(MICROBATCHES, (16, 1) if given.quick else MICROBATCHES)
        for each in norms(case, given.quick) if "norms" in given.only else ():
            Training(table, each, given, "norms").rows([each.group], [] if given.quick else [each.group])
        for each in gradients.cases(case.frames, case.size, case.precision, given.quick) if "gradients" in given.only else ():
            gradients.block(table, each, given.quick)
    if "long" in given.only:
        long_clips.block(table, given.size, given.quick)
    verdict(table.rows)
    print(f"\n{(time.monotonic() - begin) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
