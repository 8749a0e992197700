"""One PyTorch training, as people write it: prints its peak and its step time as JSON. Run by training.py."""
import argparse
import json
import pathlib
import resource
import statistics
import tempfile
import time

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def conv(inputs, outputs, stride):
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = conv(inputs, outputs, stride)
        self.conv2 = nn.Sequential(nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)) if stride != 1 else None

    def forward(self, x):
        out = self.conv2(self.conv1(x))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class R3d18(nn.Module):
    """torchvision's r3d_18, written out: its wheels bring CUDA."""

    def __init__(self, classes, checkpointed):
        super().__init__()
        self.checkpointed = checkpointed
        self.stem = nn.Sequential(nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(64), nn.ReLU(inplace=True))
        widths = [64, 64, 128, 256, 512]
        self.layers = nn.ModuleList(nn.Sequential(Block(i, o, 1 if o == 64 else 2), Block(o, o, 1)) for i, o in zip(widths, widths[1:]))
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.checkpointed else layer(x)
        return self.fc(x.mean((2, 3, 4)))


def resident():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--microbatch", type=int, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--profile", action="store_true", help="what autograd saves, and the peak of all tensors, of one microbatch")
    given = parser.parse_args()
    torch.set_num_threads(2)
    base = resident()
    torch.manual_seed(0)
    net = R3d18(4, given.checkpoint).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    clips = torch.randint(0, 255, (given.batch, given.frames, given.size, given.size, 3), dtype=torch.uint8)
    labels = torch.randint(0, 4, (given.batch,))
    seconds = []
    for _ in range(given.steps):
        begin = time.perf_counter()
        for i in range(0, given.batch, given.microbatch):
            x = clips[i:i + given.microbatch].permute(0, 4, 1, 2, 3).float() / 255
            with torch.autocast("cpu", torch.bfloat16, enabled=given.bf16):
                logits = net(x)
            (nn.functional.cross_entropy(logits.float(), labels[i:i + given.microbatch], reduction="sum") / given.batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"peak": peak, "base": base, "seconds": statistics.median(seconds[1:])}
    if given.profile:
        x, y = clips[:given.microbatch].permute(0, 4, 1, 2, 3).float() / 255, labels[:given.microbatch]
        figures["saved"], loss = saved_for_backward(net, x, y)
        del loss
        figures["live"] = peak_of_tensors(lambda: nn.functional.cross_entropy(net(x), y, reduction="sum").backward())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
