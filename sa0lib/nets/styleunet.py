"""The generator in UV space (Sec. 3.2): a StyleGAN2 whose features a U-Net steers through SFT layers.

A U-Net reads the warped features down to 4 x 4 and back up. At each size its map gives a scale and a shift for the
StyleGAN2 features of that size (Wang et al. 2018, spatial feature transform), whose convolutions are modulated by the
source's summary through StyleGAN2's mapping network (Karras et al. 2020). A U-Net that steers by SFT is what GPAvatar
and GAGAvatar use, with a style of the U-Net's own; the paper cites StyleAvatar, whose layers are wavelets, and has the
CLS token modulate. Left out: noise, which would make the avatar differ from call to call.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu

SLOPE = 0.2  # of the leaky ReLUs
GAIN = math.sqrt(2)  # after a leaky ReLU, so that magnitudes stay
SMALLEST = 4  # texels: where the U-Net turns and the StyleGAN2 begins


def widths(size: int, width: float) -> int:
    """Channels of the StyleGAN2 at this many texels; half as many in the U-Net. `width` 1: 512 up to 32 texels."""
    return max(8, round(width * min(512, 16384 // size)))


def activate(x: Tensor) -> Tensor:
    """StyleGAN2's activation."""
    return leaky_relu(x, SLOPE) * GAIN


class Mapping(nn.Module):
    """From the source's summary to the style."""

    def __init__(self, summary: int, style: int, layers: int = 8):
        super().__init__()
        sizes = [summary] + [style] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))

    def forward(self, summary: Float[Tensor, "B D"]) -> Float[Tensor, "B S"]:
        x = summary * summary.square().mean(-1, keepdim=True).add(1e-8).rsqrt()
        for layer in self.layers:
            x = activate(layer(x))
        return x


class ModulatedConv(nn.Module):
    """A convolution whose input channels the style scales, with unit variance of the output restored (demodulation).

    Scaling input and output of one shared kernel is the same as a kernel a sample, and needs no groups.
    """

    def __init__(self, channels: int, out_channels: int, style: int, kernel: int = 3, demodulate: bool = True):
        super().__init__()
        self.style = nn.Linear(style, channels)
        nn.init.ones_(self.style.bias)
        scale = 1 / math.sqrt(channels * kernel**2)
        self.weight = nn.Parameter(scale * torch.randn(out_channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels, 1, 1))
        self.demodulate = demodulate

    def forward(self, x: Float[Tensor, "B C H W"], style: Float[Tensor, "B S"]) -> Float[Tensor, "B O H W"]:
        scale = self.style(style)  # [B, C]
        x = nn.functional.conv2d(x * scale[..., None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            power = scale.square() @ self.weight.square().sum((2, 3)).T  # [B, O]
            x = x * (power + 1e-8).rsqrt()[..., None, None]
        return x + self.bias


class Down(nn.Module):
    """A residual block of the U-Net that halves the size."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        y = activate(self.first(x))
        return (activate(self.second(avg_pool2d(y, 2))) + self.skip(avg_pool2d(x, 2))) / GAIN


class Steer(nn.Module):
    """SFT: scale and shift of another map's features, from one of the U-Net.

    The scale is kept between 0 and 2, which bounds what a row of them can multiply up to.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.scale, self.shift = (self._stack(channels, out_channels) for _ in range(2))

    @staticmethod
    def _stack(channels: int, out_channels: int) -> nn.Sequential:
        last = nn.Conv2d(channels, out_channels, 3, padding=1)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(SLOPE), last)

    def forward(self, x: Float[Tensor, "B O H W"], condition: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O H W"]:
        return x * (1 + self.scale(condition).tanh()) + self.shift(condition)


class StyleUNet(nn.Module):
    """From warped features on the chart to `out_channels` channels on the chart.

    Raises ValueError if `size` is no power of two of 8 or more.
    """

    def __init__(self, channels: int, summary: int, out_channels: int, size: int, width: float, style: int):
        super().__init__()
        if size < 2 * SMALLEST or size & (size - 1):
            raise ValueError(f"a chart of 8, 16, 32, ... texels a side is needed, not {size}")
        sizes = [SMALLEST << i for i in range(int(math.log2(size // SMALLEST)) + 1)]  # 4, 8, ..., size
        outer = [widths(n, width) for n in sizes]  # of the StyleGAN2
        inner = [max(8, n // 2) for n in outer]  # of the U-Net
        self.mapping = Mapping(summary, style)
        self.enter = nn.Conv2d(channels, inner[-1], 1)
        pairs = list(zip(inner, inner[1:], strict=False))  # (coarse, fine)
        self.down = nn.ModuleList(Down(fine, coarse) for coarse, fine in reversed(pairs))
        self.turn = nn.Conv2d(inner[0], inner[0], 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 3, padding=1) for coarse, fine in pairs)
        self.steer = nn.ModuleList(Steer(a, b) for a, b in zip(inner, outer, strict=True))
        self.start = nn.Parameter(torch.randn(1, outer[0], SMALLEST, SMALLEST))
        self.first = nn.ModuleList(
            ModulatedConv(a, b, style) for a, b in zip([outer[0], *outer[:-1]], outer, strict=True)
        )
        self.second = nn.ModuleList(ModulatedConv(n, n, style) for n in outer)
        self.leave = nn.ModuleList(ModulatedConv(n, out_channels, style, 1, False) for n in outer)

    def forward(self, chart: Float[Tensor, "B C N N"], summary: Float[Tensor, "B D"]) -> Float[Tensor, "B O N N"]:
        style = self.mapping(summary)
        skips = [activate(self.enter(chart))]
        for down in self.down:
            skips.append(down(skips[-1]))
        condition = activate(self.turn(skips.pop()))
        x, out = self.start.expand(len(chart), -1, -1, -1), 0.0
        for i, steer in enumerate(self.steer):
            if i:
                condition = (activate(self.up[i - 1](_double(condition))) + skips.pop()) / GAIN
                x, out = _double(x), _double(out)
            x = activate(self.first[i](x, style))
            x = activate(self.second[i](steer(x, condition), style))
            out = out + self.leave[i](x, style)
        return out


def _double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
