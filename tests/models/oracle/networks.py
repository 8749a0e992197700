"""The published networks, rebuilt in plain torch.nn from their descriptions: an oracle that shares no code with sluice.

Names and order of layers are those of torchvision.models.video (Tran et al., CVPR 2018) and of pytorchvideo's slow_r50
(Feichtenhofer et al., ICCV 2019).
"""
import torch
from torch import nn
from torch.nn import functional as F


def full(inner, outer, between, stride):
    return nn.Conv3d(inner, outer, 3, stride, 1, bias=False)


def spatial(inner, outer, between, stride):
    return nn.Conv3d(inner, outer, (1, 3, 3), stride, (0, 1, 1), bias=False)


def factored(inner, outer, between, stride):
    return nn.Sequential(nn.Conv3d(inner, between, (1, 3, 3), (1, *stride[1:]), (0, 1, 1), bias=False), nn.BatchNorm3d(between),
                         nn.ReLU(inplace=True), nn.Conv3d(between, outer, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0), bias=False))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, inner, planes, conv, stride, downsample):
        super().__init__()
        between = (inner * planes * 27) // (inner * 9 + 3 * planes)
        self.conv1 = nn.Sequential(conv(inner, planes, between, stride), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(conv(planes, planes, between, (1, 1, 1)), nn.BatchNorm3d(planes))
        self.relu, self.downsample = nn.ReLU(inplace=True), downsample

    def forward(self, x):
        out = self.conv2(self.conv1(x))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inner, planes, conv, stride, downsample):
        super().__init__()
        between = (inner * planes * 27) // (inner * 9 + 3 * planes)
        self.conv1 = nn.Sequential(nn.Conv3d(inner, planes, 1, bias=False), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(conv(planes, planes, between, stride), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(nn.Conv3d(planes, planes * 4, 1, bias=False), nn.BatchNorm3d(planes * 4))
        self.relu, self.downsample = nn.ReLU(inplace=True), downsample

    def forward(self, x):
        out = self.conv3(self.conv2(self.conv1(x)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class VideoResNet(nn.Module):
    """`kinds`: the convolution of each stage; `strides`: (time, space) of each stage."""

    def __init__(self, kinds, layers=(2, 2, 2, 2), width=64, block=Basic, strides=None, stem=None, classes=400):
        super().__init__()
        if kinds[0] is factored:
            between = width * 45 // 64
            self.stem = nn.Sequential(nn.Conv3d(3, between, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False), nn.BatchNorm3d(between), nn.ReLU(inplace=True),
                                      nn.Conv3d(between, width, (3, 1, 1), (1, 1, 1), (1, 0, 0), bias=False), nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        else:
            channels, kernel, stride = stem or (width, (3, 7, 7), (1, 2, 2))
            self.stem = nn.Sequential(nn.Conv3d(3, channels, kernel, stride, tuple(k // 2 for k in kernel), bias=False), nn.BatchNorm3d(channels), nn.ReLU(inplace=True))
        inner = stem[0] if stem else width
        for i, (kind, blocks) in enumerate(zip(kinds, layers)):
            planes = width * 2**i
            time, space = strides[i] if strides else ((1, 1) if i == 0 else (1 if kind is spatial else 2, 2))
            stage = []
            for b in range(blocks):
                stride = (time, space, space) if b == 0 else (1, 1, 1)
                outer = planes * block.expansion
                down = None
                if stride != (1, 1, 1) or inner != outer:
                    down = nn.Sequential(nn.Conv3d(inner, outer, 1, stride, bias=False), nn.BatchNorm3d(outer))
                stage.append(block(inner, planes, kind, stride, down))
                inner = outer
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(layers)
        self.fc = nn.Linear(inner, classes)

    def forward(self, x):
        x = self.stem(x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3, 4)))


class SlowBranch(nn.Module):
    def __init__(self, inner, width, temporal, stride):
        super().__init__()
        self.conv_a = nn.Conv3d(inner, width, (temporal, 1, 1), padding=(temporal // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(width)
        self.conv_b = nn.Conv3d(width, width, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.norm_b = nn.BatchNorm3d(width)
        self.conv_c = nn.Conv3d(width, width * 4, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(width * 4)

    def forward(self, x):
        x = F.relu(self.norm_a(self.conv_a(x)))
        x = F.relu(self.norm_b(self.conv_b(x)))
        return self.norm_c(self.conv_c(x))


class SlowBlock(nn.Module):
    def __init__(self, inner, width, temporal, stride):
        super().__init__()
        self.branch1_conv = None
        if inner != width * 4 or stride != 1:
            self.branch1_conv = nn.Conv3d(inner, width * 4, 1, (1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(width * 4)
        self.branch2 = SlowBranch(inner, width, temporal, stride)

    def forward(self, x):
        shortcut = x if self.branch1_conv is None else self.branch1_norm(self.branch1_conv(x))
        return F.relu(shortcut + self.branch2(x))


class SlowStage(nn.Module):
    def __init__(self, inner, width, blocks, temporal, stride):
        super().__init__()
        self.res_blocks = nn.ModuleList([SlowBlock(inner if b == 0 else width * 4, width, temporal, stride if b == 0 else 1) for b in range(blocks)])

    def forward(self, x):
        for block in self.res_blocks:
            x = block(x)
        return x


class SlowStem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(64)

    def forward(self, x):
        return F.max_pool3d(F.relu(self.norm(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class SlowHead(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.proj = nn.Linear(2048, classes)

    def forward(self, x):
        return self.proj(x.mean((2, 3, 4)))


def slow_r50(classes=400):
    stages = [SlowStem(), SlowStage(64, 64, 3, 1, 1), SlowStage(256, 128, 4, 1, 2), SlowStage(512, 256, 6, 3, 2), SlowStage(1024, 512, 3, 3, 2), SlowHead(classes)]
    net = nn.Module()
    net.blocks = nn.ModuleList(stages)

    def forward(x):
        for stage in stages:
            x = stage(x)
        return x

    net.forward = forward
    return net


PUBLISHED = {
    "r3d_18": lambda: VideoResNet([full] * 4),
    "mc3_18": lambda: VideoResNet([full] + [spatial] * 3),
    "r2plus1d_18": lambda: VideoResNet([factored] * 4),
    "slow_r50": slow_r50,
}
