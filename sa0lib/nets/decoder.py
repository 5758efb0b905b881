"""From the generator's 32 channels to the attributes of Gaussians (Sec. 3.2, App. A.1)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from sa0lib.generator_losses import RESIDUALS

ATTRIBUTES = {"means": 3, "quats": 4, "log_scales": 3, "colors": 3, "opacities": 1}  # channels of each head

OCTAVES = 4  # of the harmonic embedding
DIRECTION = 3 * (1 + 2 * OCTAVES)  # 27
CONDITION = 112  # 100 expression codes, head rotation and jaw, two eyes


def harmonic(direction: Float[Tensor, "B 3"]) -> Float[Tensor, "B 27"]:
    """Eq. (6): the direction, then sines and cosines of 2^k pi times it, k = 0 to 3.

    The direction is the camera's viewing axis in the frame of the skull: the third *row* of the world-to-camera
    rotation. The paper says the third column; with row vectors, as its tracker has them, that is the same vector. The
    third column of a matrix for column vectors is the world's z axis seen from the camera: it stays where a camera
    walks around that axis, and moves where a camera only rolls.
    """
    octaves = math.pi * 2.0 ** torch.arange(OCTAVES, device=direction.device, dtype=direction.dtype)
    angle = (octaves[:, None] * direction[:, None]).flatten(1)  # [B, 12]
    return torch.cat([direction, angle.sin(), angle.cos()], -1)


def condition(params: dict[str, Float[Tensor, "B _"]]) -> Float[Tensor, "B 112"]:
    """Eq. (7): what the residual head is told of the target: expression, head rotation and jaw, eyes. No shape."""
    return torch.cat([params[name] for name in ("expr", "rotation", "jaw", "eyes")], -1)


class Maps(NamedTuple):
    """Attributes on the chart, before activations, relative to where Gaussians start."""

    attributes: dict[str, Float[Tensor, "B _ N N"]]  # by the names of ATTRIBUTES, corrections included
    deltas: dict[str, Float[Tensor, "B _ N N"]]  # the residual head's corrections alone, by the names of RESIDUALS


class Decoder(nn.Module):
    """Five parallel heads on features and viewing direction, and a residual head on features and expression."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.heads = nn.ModuleDict({name: AttributeHead(channels, hidden, n) for name, n in ATTRIBUTES.items()})
        self.residual = ResidualHead(channels, hidden)

    def forward(
        self,
        features: Float[Tensor, "B C N N"],
        gamma: Float[Tensor, "B 27"],
        codes: Float[Tensor, "B 112"],
    ) -> Maps:
        attributes = {name: head(features, gamma) for name, head in self.heads.items()}
        deltas = self.residual(features, codes)
        return Maps({name: v + deltas[name] if name in deltas else v for name, v in attributes.items()}, deltas)


class AttributeHead(nn.Module):
    """One of the five: features and direction concatenated, a 3 x 3 convolution, and a 1 x 1 one.

    The direction is the same everywhere, so its part of the first convolution is one vector, added everywhere: the
    concatenation, with the direction going on beyond the border, at a fraction of the time.
    """

    def __init__(self, channels: int, hidden: int, out_channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.lift = nn.Linear(DIRECTION, hidden, bias=False)
        self.last = nn.Conv2d(hidden, out_channels, 1)
        nn.init.normal_(self.last.weight, std=1e-2 / math.sqrt(hidden))  # a new generator predicts the start
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Float[Tensor, "B C N N"], gamma: Float[Tensor, "B 27"]) -> Float[Tensor, "B O N N"]:
        return self.last(silu(self.first(features) + self.lift(gamma)[..., None, None]))


class ResidualHead(nn.Module):
    """FiLM (Perez et al. 2018): the codes scale and shift the features, and a 1 x 1 convolution reads the correction.

    Last layers start at zero, so a new head corrects nothing. It does not see the viewing direction.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.film = nn.Sequential(
            nn.Linear(CONDITION, hidden), nn.SiLU(), nn.Linear(hidden, 2 * channels * len(RESIDUALS))
        )
        self.read = nn.ModuleDict({name: nn.Conv2d(channels, ATTRIBUTES[name], 1) for name in RESIDUALS})
        for layer in (self.film[-1], *self.read.values()):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "B C N N"], codes: Float[Tensor, "B 112"]) -> dict[str, Tensor]:
        film = self.film(codes).unflatten(1, (len(RESIDUALS), 2, -1))[..., None, None]  # [B, 4, 2, C, 1, 1]
        deltas = {}
        for i, (name, read) in enumerate(self.read.items()):
            scale, shift = film[:, i].unbind(1)
            deltas[name] = read((1 + scale) * features + shift)
        return deltas
