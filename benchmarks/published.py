"""Describe published systems for FER-2013: what they report, how they chose it, and what their training costs.

The networks are rewritten from the papers and from the settings their authors publish, as
far as arithmetic goes: convolutions, matrix products, and enough around them to train. They are built to be
timed and counted, not to reach the published accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.workload import TRAINING
from pipeline.data.fer import LABELS

CLASSES = len(LABELS)


@dataclass(frozen=True)
class Training:
    """What decides the cost of a training. Images enter as [B, channels, size, size], `crops` of each."""

    network: Callable[[], nn.Module]
    channels: int
    size: int
    crops: int
    batch_size: int
    epochs: int
    """As stated, or the most that are allowed where early stopping decides."""
    fewest_epochs: int | None = None
    """With early stopping: the fewest that its patience allows."""

    def epoch_range(self) -> list[int]:
        """Return the fewest and the most epochs, or the one number that is stated."""
        return [self.epochs] if self.fewest_epochs is None else [self.fewest_epochs, self.epochs]

    def image_flop(self) -> int:
        """Return the floating point operations that one image costs in one epoch: forward f, backward 2 f, per crop."""
        return 3 * self.crops * forward_flop(self.network, self.channels, self.size)

    def flop(self, epochs: int) -> int:
        """Return the same of that many epochs of FER-2013's Training split."""
        return self.image_flop() * TRAINING * epochs


@dataclass(frozen=True)
class Published:
    """A system as its authors report it; `accuracy` on PrivateTest is a fraction."""

    name: str
    accuracy: float
    source: str
    chosen_on: str
    note: str
    training: Training | None = None
    """None: what is stated does not suffice to count it."""
    pretrained: bool = False
    """Starts from ImageNet weights, whose own training is not counted."""


def forward_flop(build: Callable[[], nn.Module], channels: int, size: int) -> int:
    """Return the floating point operations of a forward pass over one image: two per multiply-add (torch's counter)."""
    with torch.device("meta"), torch.no_grad():  # shapes only: nothing is computed, nothing takes memory
        network, image = build().eval(), torch.empty(1, channels, size, size)
        with FlopCounterMode(display=False) as counter:
            network(image)
    return int(counter.get_total_flops())


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size (at stride 1), and batch normalisation."""
    return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """The basic block of He et al. 2016: relu(two 3x3 convolutions + shortcut)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(inputs, outputs, 3, stride), nn.ReLU(), *convolution(outputs, outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def stages(depths: Sequence[int]) -> list[nn.Sequential]:
    """Return the four stages of a ResNet: 64, 128, 256, 512 channels, each but the first at half the size."""
    widths = (64, 64, 128, 256, 512)
    return [
        nn.Sequential(
            Residual(inputs, outputs, 1 if inputs == outputs else 2),
            *(Residual(outputs, outputs) for _ in range(depth - 1)),
        )
        for (inputs, outputs), depth in zip(pairwise(widths), depths, strict=True)
    ]


def classifier(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


def resnet18() -> nn.Module:
    """Return ResNet-18 for small images: a 3x3 stem at full size, no pooling before the stages."""
    return nn.Sequential(*convolution(1, 64), nn.ReLU(), *stages((2, 2, 2, 2)), *classifier(512))


def vgg(channels: int, widths: Sequence[int], depths: Sequence[int], head: Sequence[nn.Module]) -> nn.Module:
    """Return stages of 3x3 convolutions with batch normalisation and ReLU, 2x2 max-pooling after each."""
    layers: list[nn.Module] = []
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            layers += [*convolution(channels, width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), *head)


def vgg_khaireddin() -> nn.Module:
    """Return four stages of two convolutions, then three fully connected layers, 4096 wide."""
    head: list[nn.Module] = []
    for inputs in (512 * 2 * 2, 4096):
        head += [nn.Linear(inputs, 4096), nn.Dropout(0.1), nn.ReLU()]
    return vgg(1, (64, 128, 256, 512), (2, 2, 2, 2), [*head, nn.Linear(4096, CLASSES)])


def vgg19() -> nn.Module:
    """Return VGG-19's sixteen convolutions and one fully connected layer; the grey face comes as three channels."""
    head = [nn.Dropout(0.5), nn.Linear(512, CLASSES)]
    return vgg(3, (64, 128, 256, 512, 512), (2, 2, 4, 4, 4), head)


class Descent(nn.Module):
    """One level of a U-net: half the size and twice the channels, deeper levels inside, and back again."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.MaxPool2d(2), Residual(width, 2 * width))
        self.inside = Descent(2 * width, levels - 1) if levels > 1 else nn.Identity()
        self.up = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 2, 2), nn.BatchNorm2d(width), nn.ReLU())
        self.merge = Residual(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat([self.up(self.inside(self.down(x))), x], dim=1))
        return merged


class Mask(nn.Module):
    """The masking block of Pham et al.: x (1 + softmax over channels of a U-net with `levels` levels)."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        inside = [Descent(2 * width, levels)] if levels else []
        self.mask = nn.Sequential(Residual(width, 2 * width), *inside, Residual(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        masked: Tensor = x * (1 + self.mask(x).softmax(dim=1))
        return masked


def residual_masking() -> nn.Module:
    """Return ResNet-34 with a masking block after each stage, shallower as the images shrink."""
    masked = [
        layer
        for stage, width, levels in zip(stages((3, 4, 6, 3)), (64, 128, 256, 512), (3, 2, 1, 0), strict=True)
        for layer in (stage, Mask(width, levels))
    ]
    stem = [*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *masked, *classifier(512))


class ConvNeXtBlock(nn.Module):
    """Liu et al. 2022: x + 1x1 convolutions to 4 times the channels and back, after a 7x7 one per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        spatial = nn.Conv2d(width, width, 7, padding=3, groups=width)
        wide = nn.Conv2d(width, 4 * width, 1)
        narrow = nn.Conv2d(4 * width, width, 1)
        self.body = nn.Sequential(spatial, nn.GroupNorm(1, width), wide, nn.GELU(), narrow)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.body(x)
        return added


def convnext(depths: Sequence[int], widths: Sequence[int]) -> nn.Module:
    """Return ConvNeXt, to which EmoNeXt adds a small spatial transformer and channel gates (not counted)."""
    layers: list[nn.Module] = []
    inputs, patch = 3, 4
    for depth, width in zip(depths, widths, strict=True):
        layers += [nn.Conv2d(inputs, width, patch, patch), *(ConvNeXtBlock(width) for _ in range(depth))]
        inputs, patch = width, 2
    return nn.Sequential(*layers, *classifier(inputs))


def emonext_tiny() -> nn.Module:
    return convnext((3, 3, 9, 3), (96, 192, 384, 768))


def emonext_xlarge() -> nn.Module:
    return convnext((3, 3, 27, 3), (256, 512, 1024, 2048))


SYSTEMS = (
    Published(
        "VGG-19 (WuJie1010)",
        0.726,
        "github.com/WuJie1010/Facial-Expression-Recognition.Pytorch",
        "PublicTest",
        "its headline 73.11 is the best epoch on PrivateTest itself",
        Training(vgg19, channels=3, size=44, crops=1, batch_size=128, epochs=250),
    ),
    Published(
        "VGG (Khaireddin & Chen)",
        0.7328,
        "arXiv 2105.03588, github.com/usef-kh/fer",
        "PrivateTest",
        "ten crops in training too; any fine-tuning after the 300 epochs is not counted",
        Training(vgg_khaireddin, channels=1, size=40, crops=10, batch_size=64, epochs=300),
    ),
    Published(
        "ResNet-18 (LetheSec)",
        0.7370,
        "github.com/LetheSec/Fer2013-Facial-Emotion-Recognition-Pytorch",
        "PrivateTest",
        "users report that they cannot reach it (issue 3)",
        Training(resnet18, channels=1, size=40, crops=5, batch_size=128, epochs=300),
    ),
    Published(
        "Residual Masking Network",
        0.7414,
        "arXiv 2603.05937, github.com/phamquiluan/ResidualMaskingNetwork",
        "PublicTest",
        "stops after 9 epochs without progress, after 50 at the latest; users reach 73.6 (issue 9)",
        Training(residual_masking, channels=3, size=224, crops=1, batch_size=48, epochs=50, fewest_epochs=10),
        pretrained=True,
    ),
    Published(
        "EmoNeXt-T",
        0.7334,
        "arXiv 2501.08199, github.com/yelboudouri/EmoNeXt",
        "PublicTest",
        "stops after 12 epochs without progress; users reach 71.4 and 71.6 with its command (issue 6)",
        Training(emonext_tiny, channels=3, size=224, crops=1, batch_size=64, epochs=300, fewest_epochs=13),
        pretrained=True,
    ),
    Published(
        "EmoNeXt-XL",
        0.7612,
        "arXiv 2501.08199, github.com/yelboudouri/EmoNeXt",
        "PublicTest",
        "as EmoNeXt-T; ImageNet-22k weights",
        Training(emonext_xlarge, channels=3, size=224, crops=1, batch_size=64, epochs=300, fewest_epochs=13),
        pretrained=True,
    ),
    Published(
        "LHC-Net",
        0.7442,
        "arXiv 2111.07224, github.com/Bodhis4ttva/LHC_Net",
        "PublicTest",
        "several trainings in a row, each until it no longer progresses: no number of epochs is stated",
        pretrained=True,
    ),
    Published("Tang 2013, winner of the challenge", 0.7116, "arXiv 1306.0239", "PublicTest", "no budget found"),
    Published(
        "Pramerdorfer & Kampel, eight networks",
        0.752,
        "arXiv 1612.02903",
        "not found",
        "which eight networks and how wide they are was not found; single ones reach 71.6 to 72.7",
    ),
)
"""Systems with clear splits, PrivateTest accuracy and known faults; those without `training` cannot be placed."""
