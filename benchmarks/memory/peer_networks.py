"""The networks of training_peer.py, as people write them in PyTorch: torchvision's r3d_18 and model.long_recognizer."""
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


class LongRecognizer(nn.Module):
    """plugins/model/long_recognizer.cpp over the whole clip, with shrink = 1."""

    def __init__(self, classes, width, heads=8, segments=64):
        super().__init__()
        self.encoder = nn.Sequential(*(layer for inputs in (3, width) for layer in (nn.Conv3d(inputs, width, 3, (1, 2, 2), 1), nn.ReLU(inplace=True))))
        self.pool = nn.AdaptiveMaxPool1d(segments)
        self.look = nn.Conv1d(width, heads, 1, bias=False)
        self.head = nn.Sequential(nn.Linear(heads * (width + 1), 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        strongest = self.pool(self.encoder(x).mean((3, 4)))
        when = torch.linspace(-1, 1, strongest.shape[2]).expand(len(x), 1, -1)
        read = self.look(strongest).softmax(2) @ torch.cat((strongest, 4 * when), 1).transpose(1, 2)
        return self.head(read.flatten(1))


def clip_by_clip(net):
    """Convolutions of one clip after the other, with equal results: in fp64 the CPU unfolds their whole input, 27 times of it."""
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            whole = module.forward
            module.forward = lambda x, whole=whole: torch.cat([whole(clip) for clip in x.split(1)])
    return net
