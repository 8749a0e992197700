"""Is the gradient the same, whatever the microbatch, the budget and what is computed twice? Beside PyTorch, against one backward pass in fp64.

r3d_18, one logical batch of 16 clips, on the same weights and the same pixels: sluice trains one step of plain SGD from them, and its gradient is
what the weights moved by. Where batch norm takes statistics, the oracle takes them over the same clips: over all for "batch", over
microbatches of m for { group = m }. Columns: relative difference (2-norm) of the whole gradient to that of fp64, of the worst tensor to that of
fp64, and of the whole to PyTorch's in the same precision. A part of training.py.
"""
import dataclasses

import numpy as np
from safetensors.numpy import load_file, save_file

from sides import BATCH, WORK, Case, run_peer  # first: it says where measured_runs is
from measured_runs import synthetic_pipeline, train

# So large that the weights after the step are the gradient, to the last bits of an fp32 number.
RATE = 1000.0


def peer_name(name):
    name = name.removeprefix("backbone.").removeprefix("head.").replace("classifier.", "fc.")
    for i in range(1, 5):
        if name.startswith(f"layer{i}."):
            name = f"layers.{i - 1}." + name.removeprefix(f"layer{i}.")
    return name


def weights_after(case, *keys):
    train(synthetic_pipeline(WORK), *case.keys(), "optimizer.momentum=0", *keys)
    return {peer_name(name): tensor for name, tensor in load_file(WORK / "run" / "checkpoints" / "step-1" / "model.safetensors").items()}


def norm(tensors):
    return sum(float(np.linalg.norm(tensor)) ** 2 for tensor in tensors) ** 0.5


def difference(gradient, exact):
    return norm(gradient[name] - exact[name] for name in exact) / norm(exact.values())


class Gradients:
    """Of a case: its oracle, PyTorch's and ours, all from one set of weights."""

    def __init__(self, case):
        self.case = dataclasses.replace(case, steps=1)
        self.clips = self.case.clips()
        self.start = weights_after(self.case, "optimizer.lr=0")
        self.start_file = WORK / "start.safetensors"
        save_file(self.start, self.start_file)
        # Cut as batch norm is; without statistics in one piece. What is computed twice spares memory here and changes no bit.
        self.exact = self.pytorch(case.group or BATCH, "--fp64", "--checkpoint", precision="fp32")

    def pytorch(self, microbatch, *words, precision=None):
        case = dataclasses.replace(self.case, precision=precision or self.case.precision)
        file = WORK / "gradient.safetensors"
        run_peer(*case.peer_words(self.clips, microbatch), "--weights", self.start_file, "--gradient", file, *words)
        return {name: tensor.astype(np.float64) for name, tensor in load_file(file).items()}

    def sluice(self, *keys):
        after = weights_after(self.case, f"optimizer.lr={RATE}", *keys)
        return {name: (self.start[name].astype(np.float64) - after[name]) / RATE for name in self.exact}

    def row(self, table, name, gradient, theirs=None):
        worst = max(self.exact, key=lambda key: difference({key: gradient[key]}, {key: self.exact[key]}))
        row = {"part": "gradients", "side": "sluice" if theirs else "PyTorch", "name": name, "group": self.case.group, "frames": self.case.frames, "precision": self.case.precision,
               "whole": difference(gradient, self.exact), "worst": difference({worst: gradient[worst]}, {worst: self.exact[worst]}), "worst_tensor": worst,
               "to_peer": difference(gradient, theirs) if theirs else None}
        beside = f"{row['to_peer']:>10.1e}" if theirs else f"{'':>10}"
        table.add(row, f"{row['whole']:>10.1e}{row['worst']:>10.1e}{beside}  {worst}")


def block(table, case, quick=False):
    table.title(f"gradient of r3d_18, {BATCH} clips of {case}: difference to fp64, of the whole and of the worst tensor, and of the whole to PyTorch", f"{'whole':>10}{'worst':>10}{'PyTorch':>10}")
    gradients = table.attempt("weights and oracle", lambda: Gradients(case))
    if not gradients:
        return
    microbatches = [case.group] if case.group else [BATCH, 1] if quick else [BATCH, 8, 4, 2, 1]
    peers = {}
    for microbatch in microbatches:
        name = f"PyTorch, microbatch {microbatch}"
        if gradient := table.attempt(name, lambda m=microbatch: gradients.pytorch(m)):
            peers[microbatch] = gradient
            gradients.row(table, name, gradient)
    whole = microbatches[0]
    ours = [(f"sluice, microbatch {m}", m, [f"batch.microbatch={m}", "plan.checkpoint=false"]) for m in microbatches]
    ours.append((f"sluice, microbatch {whole}, every segment twice", whole, [f"batch.microbatch={whole}", "plan.checkpoint=true"]))
    if smallest := table.attempt("the smallest budget", lambda: gradients.case.plan()["smallest_host_ram"]):
        ours.append((f"sluice, host_ram = {smallest >> 20} MiB, the smallest", whole, [f"budget.host_ram={smallest}B"]))
    for name, microbatch, keys in ours:
        if microbatch in peers and (gradient := table.attempt(name, lambda k=keys: gradients.sluice(*k))):
            gradients.row(table, name, gradient, peers[microbatch])


def cases(frames, size, precision, quick):
    return [Case(frames=frames, size=size, precision=precision, group=group) for group in ((0, BATCH, 4) if quick else (0, BATCH, 8, 4, 2))]
