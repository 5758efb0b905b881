"""Stage 1 as a whole (Sec. 3.2): from K pictures of a head to Gaussians on the mesh of any expression and view.

    pictures -> backbone -> DPT -> warp to the chart -> mean over sources -> StyleUNet -> 32 channels
    32 channels, viewing direction -> five heads; 32 channels, target's codes -> corrections -> Gaussians

`encode` sees the sources alone, so its result serves all targets of a person.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa0lib.datasets.clip import Views
from sa0lib.gaussians import Gaussians
from sa0lib.head import Head, viewing_direction
from sa0lib.nets.decoder import Decoder, Maps, condition, harmonic
from sa0lib.nets.dpt import DPT
from sa0lib.nets.encoder import BackboneName, make_backbone
from sa0lib.nets.styleunet import StyleUNet
from sa0lib.nets.warp import on_chart, project, texel_points, visible, warp
from sa0lib.uv import build_uv_map

LOG_SCALES = (-4.6, 2.3)  # bounds of log-scales: between a hundredth of s_f and the start on the coarsest chart
GRAY = 0.5  # colour that Gaussians start with


@dataclass(frozen=True)
class GeneratorConfig:
    """The size of a generator. Defaults are the paper's where it says, GAGAvatar's or ours where it does not."""

    backbone: BackboneName = "dinov3_vitb16"  # frozen; vgg16 and alexnet can be obtained by everybody
    uv_size: int = 256  # texels a side: about 58,000 Gaussians
    dense_channels: int = 256  # of the DPT head, inside
    warped_channels: int = 128  # of the dense map that is warped; ours (GAGAvatar's map has 256)
    channels: int = 32  # paper: of the StyleUNet's output
    width: float = 1.0  # of the StyleUNet: 1 has 512 channels up to 32 texels
    style: int = 512  # of the mapping network
    hidden: int = 64  # of the decoder's heads; ours
    empty_unseen: bool = True  # texels that a source does not see get nothing from it; the paper does not say
    pool: str = "mean"  # paper: mean over sources; "attention" is Table 5's other way

    def __post_init__(self):
        if self.pool not in ("mean", "attention"):
            raise ValueError(f"pool must be 'mean' or 'attention', not {self.pool!r}")
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), int | float) and not value > 0 and value is not False:
                raise ValueError(f"{field.name} must be positive, not {value}")


class Person(NamedTuple):
    """What the sources say: all that targets need."""

    features: Float[Tensor, "B 32 N N"]
    summary: Float[Tensor, "B D"]


class Prediction(NamedTuple):
    """Gaussians as maps, and what the losses look at."""

    maps: Maps
    gamma: Float[Tensor, "B 27"]  # Eq. (6) of the target


class Generator(nn.Module):
    """f_theta. `head` decides chart, mesh and where Gaussians start; its basis is checked by whoever loads data."""

    def __init__(self, head: Head, config: GeneratorConfig, weights: str | None = None):
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config.backbone, weights)
        self.dpt = DPT(self.backbone, config.dense_channels, config.warped_channels)
        self.entering = config.warped_channels + 3 + 1  # on the chart: the dense map, colour, whether it was seen
        self.attention = nn.Conv2d(self.entering, 1, 1) if config.pool == "attention" else None
        self.unet = StyleUNet(
            self.entering, self.backbone.width, config.channels, config.uv_size, config.width, config.style
        )
        self.decoder = Decoder(config.channels, config.hidden)
        self.head = [head]  # not a submodule: it is no part of the checkpoint, and never trained
        self.uv_map = build_uv_map(head.vt.cpu(), head.ft.cpu(), config.uv_size)
        gray = torch.full((len(self.uv_map), 3), GRAY)
        start = Gaussians.initial(self.uv_map, head().detach()[0].cpu(), head.faces.cpu(), gray)
        for name in ("means", "quats", "log_scales"):
            self.register_buffer(f"start_{name}", getattr(start, name), persistent=False)
        self.start_opacity = float(start.opacity_logits[0])
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest with, on CPUs and tensor cores

    def forward(self, sources: Views, target: Views) -> Prediction:
        """What the sources [B, K, ...] look like with the codes and from the camera of the target [B, ...].

        Pictures are float in [0, 1]. Of the target neither picture nor matte is looked at.
        """
        return self.decode(self.encode(sources), target.params, target.viewmat)

    def encode(self, sources: Views) -> Person:
        """K sources [B, K, ...] to a person, the same in any order."""
        B, K = sources.image.shape[:2]
        each = sources.map(lambda t: t.flatten(0, 1))  # [B K, ...]
        chart, summary = self._warped(each)
        chart, summary = chart.unflatten(0, (B, K)), summary.unflatten(0, (B, K))  # [B, K, C, N, N], [B, K, D]
        if self.attention is None:
            chart, summary = chart.mean(1), summary.mean(1)
        else:
            weight = self.attention(chart.flatten(0, 1)).unflatten(0, (B, K)).softmax(1)  # [B, K, 1, N, N]
            chart = (weight * chart).sum(1)
            summary = (weight.mean((-2, -1)) * summary).sum(1)
        return Person(self.unet(chart, summary), summary)

    def decode(
        self, person: Person, params: dict[str, Float[Tensor, "B _"]], viewmat: Float[Tensor, "B 4 4"]
    ) -> Prediction:
        """A person with other codes, from another camera."""
        with exact(viewmat):
            gamma = harmonic(viewing_direction(params, viewmat))
        gamma.requires_grad_(torch.is_grad_enabled())  # the Jacobian penalty differentiates by it
        return Prediction(self.decoder(person.features, gamma, condition(params)), gamma)

    def gaussians(self, prediction: Prediction, i: int) -> Gaussians:
        """The Gaussians of sample `i`: a texel's start, moved by what its map says; colours are logits there."""
        chart = self.uv_map.to(self.start_means.device)
        raw = {k: v[i, :, chart.row, chart.col].T for k, v in prediction.maps.attributes.items()}  # [G, _]
        return Gaussians(
            means=self.start_means + raw["means"],
            quats=self.start_quats + raw["quats"],
            log_scales=(self.start_log_scales + raw["log_scales"]).clamp(*LOG_SCALES),
            opacity_logits=self.start_opacity + raw["opacities"][:, 0],
            color_logits=raw["colors"],
            face=chart.face,
        )

    def _warped(self, views: Views) -> tuple[Float[Tensor, "B C N N"], Float[Tensor, "B D"]]:
        """Each source alone: features, colour and visibility on the chart, and its summary."""
        head, size = self.head[0], tuple(views.image.shape[-2:])
        uv_map = self.uv_map.to(views.image.device)
        image = views.image * views.mask + 1 - views.mask  # on white: what is behind a head says nothing about it
        features = self.backbone(image)
        dense = self.dpt(features.maps, (size[0] // 2, size[1] // 2))  # [B, C, H/2, W/2]
        with torch.no_grad(), exact(image):
            points, normals = texel_points(uv_map, head(**views.params), head.faces)
            xy, _ = project(points, views.viewmat, views.K)
            seen = torch.ones_like(xy[..., 0])
            if self.config.empty_unseen:
                seen = visible(points, normals, views.viewmat, views.K, size).to(seen)
        chart = torch.cat([warp(uv_map, dense, xy, size), warp(uv_map, image, xy, size)], 1)
        seen = on_chart(uv_map, seen[:, None])
        return torch.cat([chart * seen, seen], 1), features.summary


def exact(like: Tensor) -> torch.autocast:
    """No autocast within: half precision would move projected points by whole pixels."""
    return torch.autocast(like.device.type, enabled=False)
