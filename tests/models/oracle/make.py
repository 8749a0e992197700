"""Writes oracle.json: what PyTorch itself says about networks, losses, optimizers and schedules. python make.py OUT_FILE

Weights and inputs are given by a formula on both sides (see wave), so that only results travel. Numbers are written with
17 digits: a double comes back as it was.
"""
import json
import sys

import torch
from torch import nn
from torch.nn import functional as F

import networks as nets


def wave(shape, phase, scale=1.0):
    n = 1
    for extent in shape:
        n *= extent
    return (torch.sin(torch.arange(n, dtype=torch.float64) * 0.7 + phase) * scale).reshape(shape)


def fill(net):
    """Every weight a wave; its phase is its place among the sorted names."""
    net.double()
    with torch.no_grad():
        for phase, (name, weight) in enumerate(sorted(net.named_parameters())):
            if weight.ndim >= 2:
                weight.copy_(wave(weight.shape, phase, (2.0 / weight[0].numel()) ** 0.5))
            else:
                weight.copy_(wave(weight.shape, phase, 0.1) + (0.0 if name.endswith("bias") else 1.0))
    return net


def signature(tensor):
    """Two numbers that a change of any element, or of their order, moves."""
    flat = tensor.detach().double().reshape(-1)
    return [flat.sum().item(), (flat * torch.cos(torch.arange(flat.numel(), dtype=torch.float64) * 0.3)).sum().item()]


def activations(net, clip):
    """Bytes that autograd keeps of a forward pass, beside weights and the clip, each storage once."""
    known = {t.untyped_storage().data_ptr() for t in [clip, *net.parameters(), *net.buffers()]}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(clip)
    del out
    return sum(size for size, _ in kept.values())


def run(net, clip):
    fill(net).train()
    clip = clip.clone().requires_grad_()
    logits = net(clip)
    (logits * wave(logits.shape, 0.5)).sum().backward()
    training = {"logits": logits.tolist(), "clip": signature(clip.grad), "gradients": {n: signature(w.grad) for n, w in net.named_parameters()},
                "statistics": {n: signature(b) for n, b in net.named_buffers()}}
    net.eval()
    with torch.no_grad():
        return training | {"eval": net(clip).tolist()}


def networks():
    names = {}
    for name, make in nets.PUBLISHED.items():
        with torch.device("meta"):
            net = make()
        names[name] = {"weights": [[n, list(w.shape)] for n, w in net.named_parameters()], "statistics": [[n, list(b.shape)] for n, b in net.named_buffers()]}

    clip = wave((2, 3, 8, 20, 18), 0.1)
    results = {
        "3d": run(nets.VideoResNet([nets.full] * 3, (2, 1, 1), 4, classes=5), clip),
        "mc3": run(nets.VideoResNet([nets.full, nets.spatial, nets.spatial], (1, 2, 1), 4, classes=5), clip),
        "2plus1d": run(nets.VideoResNet([nets.factored] * 3, (1, 2, 1), 6, classes=5), clip),
        "bottleneck": run(nets.VideoResNet([nets.full] * 2, (2, 1), 4, block=nets.Bottleneck, classes=5), clip),
        "strides": run(nets.VideoResNet([nets.full] * 2, (1, 1), 4, strides=[(1, 2), (2, 1)], stem=(6, (5, 3, 3), (2, 2, 2)), classes=5), clip),
        "slow_r50": run(nets.slow_r50(5), wave((2, 3, 4, 32, 32), 0.1)),
    }
    net = nets.VideoResNet([nets.full] * 4, classes=5)
    return {"names": names, "results": results, "activations": activations(net, torch.randn(1, 3, 8, 56, 56))}


def losses():
    torch.manual_seed(1)
    logits = torch.randn(7, 4, dtype=torch.float64) * 3
    labels = [0, 3, 9, 1, 1, 2, 9]
    class_weights = [0.2, 1.0, 3.5, 0.0]
    cases = []
    for smoothing in (0.0, 0.1):
        for weights in ([], class_weights):
            for dtype in (torch.float32, torch.float64):
                x = logits.clone().to(dtype).requires_grad_()
                weight = torch.tensor(weights, dtype=dtype) if weights else None
                arguments = {"weight": weight, "ignore_index": 9, "label_smoothing": smoothing}
                total = F.cross_entropy(x, torch.tensor(labels), reduction="sum", **arguments)
                total.backward()
                mean = F.cross_entropy(x, torch.tensor(labels), reduction="mean", **arguments)
                cases.append({"smoothing": smoothing, "class_weights": weights, "double": dtype == torch.float64, "sum": total.item(), "mean": mean.item(), "gradient": x.grad.tolist()})
    return {"logits": logits.tolist(), "labels": labels, "ignore": 9, "cases": cases}


SHAPES = {"a.weight": (4, 3, 3, 3, 3), "a.bias": (4,), "b.weight": (5, 6)}


def optimizers():
    cases = {
        "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
        "nesterov": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
        "plain": (torch.optim.SGD, {"momentum": 0.0, "weight_decay": 0.01}),
        "dampening": (torch.optim.SGD, {"momentum": 0.8, "dampening": 0.3}),
        "adam": (torch.optim.Adam, {"weight_decay": 0.01}),
        "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    }
    out = {}
    for name, (kind, options) in cases.items():
        out[name] = {}
        for decay_all in (False, True):
            for fused in (False, True):
                weights = {n: nn.Parameter(wave(shape, i).float()) for i, (n, shape) in enumerate(SHAPES.items())}
                # A group each: PyTorch's fused SGD fails when only some weights of a group have their first gradient.
                groups = [{"params": [w], "weight_decay": options.get("weight_decay", 0.0) if decay_all or w.ndim > 1 else 0.0} for w in weights.values()]
                optimizer = kind(groups, lr=0.1, fused=fused, foreach=False, **options)
                for step in range(20):
                    for group in optimizer.param_groups:
                        group["lr"] = 0.1 / (step + 1)
                    for i, (n, weight) in enumerate(weights.items()):
                        # b.weight gets its first gradient at step 3: until then it must be left alone.
                        weight.grad = None if n == "b.weight" and step < 3 else wave(weight.shape, i + 0.37 * step).float()
                    optimizer.step()
                out[name][("all" if decay_all else "some") + "_" + ("fused" if fused else "single")] = {n: w.flatten().tolist() for n, w in weights.items()}
    return out


def schedules():
    from torch.optim import lr_scheduler as s

    total, warm = 40, 8

    def factors(make):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, out = make(optimizer), []
        for _ in range(total):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return out

    def after_warmup(make):
        return lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.25, 1.0, warm), make(o)], milestones=[warm])

    return {
        "constant": factors(lambda o: s.LinearLR(o, 0.25, 1.0, warm)),
        "cosine": factors(lambda o: s.CosineAnnealingLR(o, total, 0.05)),
        "cosine_warm": factors(after_warmup(lambda o: s.CosineAnnealingLR(o, total - warm, 0.05))),
        "linear_warm": factors(after_warmup(lambda o: s.LinearLR(o, 1.0, 0.1, total - warm))),
        "step": factors(lambda o: s.StepLR(o, 10, 0.5)),
        "multistep": factors(lambda o: s.MultiStepLR(o, [10, 25], 0.1)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with open(sys.argv[1], "w") as file:
        json.dump({"torch": torch.__version__, "networks": networks(), "losses": losses(), "optimizers": optimizers(), "schedules": schedules()}, file)
