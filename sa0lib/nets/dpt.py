"""The trainable head on the frozen backbone: a dense prediction transformer's (Ranftl et al. 2021) decoder.

Four maps are brought to a pyramid, each to the same number of channels, and fused from coarse to fine by RefineNet
blocks; the result has half the resolution of the picture.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from sa0lib.nets.encoder import Backbone

REASSEMBLED = (
    1 / 3,
    2 / 3,
    4 / 3,
    4 / 3,
)  # channels of the four levels of tokens over the tokens' own, as in GAGAvatar


class Residual(nn.Module):
    """RefineNet's residual convolution unit."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.second(relu(self.first(relu(x))))


class DPT(nn.Module):
    """From a backbone's four maps to one dense map."""

    def __init__(self, backbone: Backbone, channels: int, out_channels: int):
        super().__init__()
        if backbone.tokens:  # all of 1/16: to 1/4, 1/8, 1/16, 1/32
            inner = [round(share * c) for share, c in zip(REASSEMBLED, backbone.channels, strict=True)]
            resample = [
                nn.ConvTranspose2d(inner[0], inner[0], 4, stride=4),
                nn.ConvTranspose2d(inner[1], inner[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(inner[3], inner[3], 3, stride=2, padding=1),
            ]
            pairs = zip(backbone.channels, inner, resample, strict=True)
            self.reassemble = nn.ModuleList(nn.Sequential(nn.Conv2d(c, n, 1), change) for c, n, change in pairs)
        else:
            inner = backbone.channels
            self.reassemble = nn.ModuleList(nn.Identity() for _ in inner)
        self.project = nn.ModuleList(nn.Conv2d(n, channels, 3, padding=1, bias=False) for n in inner)
        self.skip = nn.ModuleList(Residual(channels) for _ in inner)
        self.fuse = nn.ModuleList(Residual(channels) for _ in inner)
        self.out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, maps: tuple[Tensor, ...], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
        """`maps` are fine to coarse once reassembled; `size` is the (height, width) of the result."""
        levels = [project(re(m)) for m, re, project in zip(maps, self.reassemble, self.project, strict=True)]
        x = torch.zeros_like(levels[-1])
        for i in range(len(levels) - 1, -1, -1):
            x = self.fuse[i](x + self.skip[i](levels[i]))
            x = interpolate(x, size=levels[i - 1].shape[-2:] if i else size, mode="bilinear", align_corners=False)
        return self.out(x)
