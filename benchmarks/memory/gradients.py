"""Is the gradient the same, whatever the microbatch, the budget and what is computed twice? Beside PyTorch, against one backward pass in fp64.

  .venv/bin/python benchmarks/memory/gradients.py [--frames 8] [--size 112] [--precision fp32]

r3d_18, one logical batch of 16 clips, batch norm frozen, on the same weights and the same pixels: sluice trains one step of plain SGD from them,
and its gradient is what the weights moved by. Columns: relative difference of the whole gradient (2-norm), and of the worst weight tensor.
Needs torch, numpy and safetensors; 24 GiB for the pass in fp64 at 16 x 112 x 112.
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from measured_runs import ROOT, clips_of, plan, synthetic_pipeline, train
from training_peer import R3d18

WORK = ROOT / "build" / "benchmarks" / "memory_gradients"
# So large that the weights after the step are the gradient, to the last bits of an fp32 number.
RATE = 1000.0
MASK = (1 << 64) - 1


def mix_bits(x):  # sdk/include/sluice/rng.hpp
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def synthetic_clip(number, frames, size):
    """As tests/fixtures/synthetic.cpp draws it: [T, H, W, C] in 0..255, and its label of four."""
    label = mix_bits(number) % 4
    bits, words = number, np.empty(frames * size * size * 3 // 8, dtype="<u8")
    for i in range(len(words)):
        bits = mix_bits((bits + 8 * i) & MASK)
        words[i] = bits
    clip = (words.view(np.uint8) & 127).reshape(frames, size, size, 3).copy()
    side = size // 4
    top, left = label // 2 % 2 * (size - side), label % 2 * (size - side)
    clip[:, top:top + side, left:left + side] = 255
    return clip, label


def settings(given):
    # The first sixteen samples are all that there are, so that every order of them is the same batch.
    return [*clips_of(given.frames, given.size), f"run.precision={given.precision}", "run.steps=1", "data.train=16"]


def sluice(file, given, *keys):
    train(file, *settings(given), "optimizer.momentum=0", *keys)
    return load_file(WORK / "run" / "checkpoints" / "step-1" / "model.safetensors")


def peer_name(name):
    name = name.removeprefix("backbone.").removeprefix("head.").replace("classifier.", "fc.")
    for i in range(1, 5):
        if name.startswith(f"layer{i}."):
            name = f"layers.{i - 1}." + name.removeprefix(f"layer{i}.")
    return name


def pytorch(start, clips, labels, microbatch, dtype, bf16=False):
    net = R3d18(4, False).train()
    missing, unexpected = net.load_state_dict({peer_name(name): tensor for name, tensor in start.items()}, strict=False)
    if unexpected or any("num_batches" not in name for name in missing):
        raise RuntimeError(f"other weights: {missing} {unexpected}")
    net = net.to(dtype)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
    for i in range(0, len(labels), microbatch):
        x = clips[i:i + microbatch].permute(0, 4, 1, 2, 3).to(dtype) / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(x)
        logits = logits if dtype == torch.float64 else logits.float()
        (nn.functional.cross_entropy(logits, labels[i:i + microbatch], reduction="sum") / len(labels)).backward()
    return {name: parameter.grad.double() for name, parameter in net.named_parameters()}


def row(name, gradient, exact):
    whole = sum((gradient[key] - exact[key]).norm() ** 2 for key in exact) ** 0.5 / sum(exact[key].norm() ** 2 for key in exact) ** 0.5
    worst = max(exact, key=lambda key: ((gradient[key] - exact[key]).norm() / exact[key].norm()).item())
    print(f"{name:<44}{whole:>10.1e}{((gradient[worst] - exact[worst]).norm() / exact[worst].norm()).item():>10.1e}  {worst}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(2)
    file = synthetic_pipeline(WORK)
    drawn = [synthetic_clip(number, given.frames, given.size) for number in range(16)]
    clips, labels = torch.from_numpy(np.stack([clip for clip, _ in drawn])), torch.tensor([label for _, label in drawn])
    start = sluice(file, given, "optimizer.lr=0")
    exact = pytorch(start, clips, labels, 16, torch.float64)

    def of_sluice(*overrides):
        after = sluice(file, given, f"optimizer.lr={RATE}", *overrides)
        return {peer_name(name): (start[name].double() - after[name].double()) / RATE for name in start if peer_name(name) in exact}

    print(f"r3d_18, 16 clips of {given.frames} x {given.size} x {given.size}, {given.precision}: difference to the gradient of one backward pass in fp64")
    print(f"{'':<44}{'whole':>10}{'worst':>10}")
    for microbatch in (16, 8, 4, 2, 1):
        row(f"PyTorch, microbatch {microbatch}", pytorch(start, clips, labels, microbatch, torch.float32, given.precision == "bf16"), exact)
    for microbatch in (16, 8, 4, 2, 1):
        row(f"sluice, microbatch {microbatch}", of_sluice(f"batch.microbatch={microbatch}", "plan.checkpoint=false"), exact)
    row("sluice, microbatch 16, every segment twice", of_sluice("batch.microbatch=16", "plan.checkpoint=true"), exact)
    smallest = plan(file, *settings(given))["smallest_host_ram"]
    row(f"sluice, the smallest budget ({smallest >> 20} MiB)", of_sluice(f"budget.host_ram={smallest}B"), exact)


if __name__ == "__main__":
    main()
