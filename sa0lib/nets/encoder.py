"""The frozen image backbone (Sec. 3.2): four feature maps and one global vector of a picture.

The paper's is DINOv3 ViT-B/16, whose weights are gated. Its architecture can always be built, and takes the weights
that a reader has (`dinov3`). What everybody can have are the ImageNet convolutions of AlexNet and VGG16, which come
with the LPIPS metric (`conv_net`): a pyramid of maps, and the mean of the deepest one in place of the CLS token.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa0lib.paths import ASSETS
from sa0lib.torchvision_cpu import declare_torchvision_operators

BackboneName = Literal["alexnet", "vgg16", "dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures in [0, 1]: all five want it
# Convolutions as torchvision numbers them: channels, or a step. Taps are the layers whose outputs are kept.
ALEXNET = [(64, 11, 4, 2), "relu", "pool3", (192, 5, 1, 2), "relu", "pool3", (384, 3, 1, 1), "relu"]
ALEXNET += [(256, 3, 1, 1), "relu", (256, 3, 1, 1), "relu"]
VGG16 = []
for repeat, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
    VGG16 += [(width, 3, 1, 1), "relu"] * repeat + ["pool2"]
CONV_NETS = {"alexnet": (ALEXNET, (1, 4, 7, 11)), "vgg16": (VGG16[:-1], (8, 15, 22, 29))}
# Width, hidden width, blocks and heads; patches of 16 px, 4 register tokens.
DINOV3 = {"s": (384, 1536, 12, 6), "b": (768, 3072, 12, 12), "l": (1024, 4096, 24, 16)}
PATCH, REGISTERS, TAPS = 16, 4, 4  # taps: the last four blocks, as in GAGAvatar


class Features(NamedTuple):
    """What a backbone says about B pictures."""

    maps: tuple[Float[Tensor, "B _ _ _"], ...]  # four [B, C_i, h_i, w_i], fine to coarse, or all of one size
    summary: Float[Tensor, "B D"]  # the CLS token, or what stands for it


class Backbone(nn.Module):
    """A frozen network behind one interface. `channels` are those of the four maps, `width` that of the summary."""

    def __init__(self, name: BackboneName, network: nn.Module, run: Callable, channels: tuple[int, ...], width: int):
        super().__init__()
        self.name, self.channels, self.width = name, channels, width
        self.network, self.run = network.eval().requires_grad_(False), run
        for key, value in (("mean", MEAN), ("std", STD)):
            self.register_buffer(key, torch.tensor(value).view(3, 1, 1), persistent=False)

    @property
    def tokens(self) -> bool:
        """Are the four maps of one size (a transformer's), so that a head has to resample them?"""
        return self.name.startswith("dinov3")

    def train(self, mode: bool = True) -> "Backbone":
        """Frozen: always in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Features:
        """Features of pictures in [0, 1]. Raises ValueError for sizes that the network cannot take."""
        height, width = image.shape[-2:]
        if self.tokens and (height % PATCH or width % PATCH):
            raise ValueError(
                f"{self.name} cuts pictures into patches of {PATCH} px: {height} x {width} does not divide"
            )
        if min(height, width) < 32:
            raise ValueError(f"{self.name} needs pictures of 32 px or more, not {height} x {width}")
        return self.run(self.network, (image - self.mean) / self.std)


def make_backbone(name: BackboneName, weights: Path | str | None = None) -> Backbone:
    """A backbone by name.

    Args:
        weights: for DINOv3 a folder (or a model's name on the hub) that `transformers` reads; without it the network
            is built with random weights, which say nothing about pictures. For the others the npz of the set-up is
            meant, unless another one is given.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: an unknown name; a file that is damaged, or holds other tensors than the network.
    """
    if name in CONV_NETS:
        return _conv_net(name, Path(weights or ASSETS / f"lpips_{name.removesuffix('net').removesuffix('16')}.npz"))
    size = name.removeprefix("dinov3_vit").removesuffix("16")
    if name != f"dinov3_vit{size}16" or size not in DINOV3:
        raise ValueError(f"backbone must be one of {BackboneName.__args__}, not {name!r}")
    return _dinov3(name, DINOV3[size], weights)


def _conv_net(name: str, path: Path) -> Backbone:
    plan, taps = CONV_NETS[name]
    layers, channels, seen = [], 3, []
    for step in plan:
        if step == "relu":
            layers.append(nn.ReLU())
        elif step in ("pool2", "pool3"):
            layers.append(nn.MaxPool2d(int(step[-1]), 2))
        else:
            layers.append(nn.Conv2d(channels, *step))
            channels = step[0]
        seen.append(channels)
    network = nn.Sequential(*layers)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `python -m data_scripts.get_assets --only lpips`")
    try:
        with np.load(path) as file:
            state = {key: torch.from_numpy(file[f"features.{key}"]) for key in network.state_dict()}
        network.load_state_dict(state)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: no weights of {name} ({error}): delete it and run get_assets again") from error

    def run(network: nn.Sequential, x: Tensor) -> Features:
        maps = []
        for i, layer in enumerate(network):
            x = layer(x)
            if i in taps:
                maps.append(x)
        return Features(tuple(maps), x.mean((-2, -1)))

    return Backbone(name, network, run, tuple(seen[i] for i in taps), seen[-1])


def _dinov3(name: str, plan: tuple[int, int, int, int], weights: Path | str | None) -> Backbone:
    declare_torchvision_operators()  # transformers imports torchvision
    from transformers import DINOv3ViTConfig, DINOv3ViTModel  # seconds, so only where it is wanted

    width, hidden, blocks, heads = plan
    config = DINOv3ViTConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_register_tokens=REGISTERS,
        patch_size=PATCH,
    )
    network = DINOv3ViTModel(config) if weights is None else _pretrained(DINOv3ViTModel, name, config, weights)

    def run(network: nn.Module, x: Tensor) -> Features:
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        out = network(x, output_hidden_states=True)
        maps = [network.norm(state)[:, 1 + REGISTERS :] for state in out.hidden_states[-TAPS:]]  # [B, h w, C] each
        return Features(tuple(m.mT.unflatten(2, (rows, columns)) for m in maps), out.pooler_output)

    return Backbone(name, network, run, (width,) * TAPS, width)


def _pretrained(model: type, name: str, config, weights: Path | str) -> nn.Module:
    try:
        network, loading = model.from_pretrained(
            weights, config=config, output_loading_info=True, use_safetensors=True, ignore_mismatched_sizes=True
        )
    except OSError as error:
        raise FileNotFoundError(f"{weights}: no weights of {name} that transformers can read ({error})") from error
    wrong = {what: sorted(map(str, keys)) for what, keys in loading.items() if keys}
    if wrong:
        raise ValueError(f"{weights}: not the weights of {name}: {wrong}")
    return network
