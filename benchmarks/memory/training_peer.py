"""One PyTorch training, as people write it: prints its peak and its step time as JSON. Run by training.py.

With --weights and --gradient it takes no step: it saves the gradient of the first batch from those weights, in fp64 with --fp64.
"""
import argparse
import json
import pathlib
import statistics
import tempfile
import time

import numpy as np
import torch
from torch import nn

from peer_networks import LongRecognizer, R3d18, clip_by_clip


def resident(what="VmRSS"):
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(what))


def saved_for_backward(net, x, labels):
    """Bytes of the distinct storages that autograd saves in a forward pass, without parameters and buffers."""
    known = {tensor.untyped_storage().data_ptr() for tensor in [*net.parameters(), *net.buffers()]}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = nn.functional.cross_entropy(net(x), labels, reduction="sum")
    return sum(storages.values()), loss  # the loss keeps them alive, and so apart


def peak_of_tensors(work):
    """Bytes of the tensors at the peak of `work`, above what lived before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        profiler.export_chrome_trace(file.name)
        events = json.loads(pathlib.Path(file.name).read_text(encoding="utf-8"))["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")


def batch_of(folder, number, size):
    """A copy: what stays mapped would count as resident."""
    return tuple(torch.from_numpy(np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[number * size:(number + 1) * size])) for name in ("clips", "labels"))


def pixels(clips, dtype=torch.float32):
    return clips.permute(0, 4, 1, 2, 3).to(dtype) / 255


def backward(net, clips, labels, given):
    dtype = torch.float64 if given.fp64 else torch.float32
    for i in range(0, len(labels), given.microbatch):
        with torch.autocast("cpu", torch.bfloat16, enabled=given.bf16):
            logits = net(pixels(clips[i:i + given.microbatch], dtype))
        (nn.functional.cross_entropy(logits.to(dtype), labels[i:i + given.microbatch], reduction="sum") / len(labels)).backward()


def network(given):
    torch.manual_seed(0)
    net = R3d18(4, given.checkpoint) if given.model == "r3d_18" else LongRecognizer(6, given.width)
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d) and given.batch_norm == "frozen":
            module.eval()
    return net


def save_gradient(given):
    from safetensors.torch import load_file, save_file

    net = network(given)
    missing, unexpected = net.load_state_dict(load_file(given.weights), strict=False)
    if unexpected or any("num_batches" not in name for name in missing):
        raise RuntimeError(f"other weights: {missing} {unexpected}")
    if given.fp64:
        net = clip_by_clip(net.double())
    backward(net, *batch_of(given.clips, 0, given.batch), given)
    save_file({name: parameter.grad for name, parameter in net.named_parameters()}, given.gradient)


def train(given):
    base = resident()
    net = network(given)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    seconds = []
    for number in range(given.steps):
        clips, labels = batch_of(given.clips, number, given.batch)
        begin = time.perf_counter()
        backward(net, clips, labels, given)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
    peak = resident("VmHWM")  # ru_maxrss would be no less than what the process held that started this one
    # What no training with momentum does without.
    floor = 3 * sum(parameter.nbytes for parameter in net.parameters())
    figures = {"peak": peak, "base": base, "floor": floor, "seconds": statistics.median(seconds[1:] or seconds)}
    if given.profile:
        x, y = pixels(clips[:given.microbatch]), labels[:given.microbatch]
        figures["saved"], loss = saved_for_backward(net, x, y)
        del loss
        figures["live"] = peak_of_tensors(lambda: nn.functional.cross_entropy(net(x), y, reduction="sum").backward())
    print(json.dumps(figures))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=pathlib.Path, required=True, help="folder written by clips.py")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--microbatch", type=int, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", choices=["r3d_18", "long_recognizer"], default="r3d_18")
    parser.add_argument("--width", type=int, default=8, help="of long_recognizer")
    parser.add_argument("--batch-norm", choices=["frozen", "training"], default="frozen")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--fp64", action="store_true")
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--profile", action="store_true", help="what autograd saves, and the peak of all tensors, of one microbatch")
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--gradient", type=pathlib.Path, help="file to save it in")
    given = parser.parse_args()
    torch.set_num_threads(2)
    if given.gradient:
        save_gradient(given)
    else:
        train(given)


if __name__ == "__main__":
    main()
