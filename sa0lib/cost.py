"""What a computation costs: its operations, and its memory, counted tensor by tensor.

Both are counted on the meta device too, where nothing is computed.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sa0lib.head import Head
from sa0lib.nets import Generator, GeneratorConfig
from sa0lib.nets.decoder import CONDITION, DIRECTION


class Memory(TorchDispatchMode):
    """Watches every operation and adds up the bytes of what it makes until that is freed. `peak` is the most at a time.

    Temporaries inside of one operation are not seen, and neither is what was there before: weights, inputs.
    """

    def __init__(self):
        super().__init__()
        self.known, self.live, self.peak = set(), 0, 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        made = op(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage() if torch.is_tensor(tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known.add(storage._cdata)
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
        return made

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


@dataclass(frozen=True)
class Part:
    """A part of the generator, for one picture or one target."""

    name: str
    parameters: int
    operations: int  # of convolutions and matrix products; a multiplication and an addition are two
    peak_bytes: int  # of activations alive at one time, in inference, beyond its input; attention as matrices


def generator_parts(head: Head, config: GeneratorConfig, pixels: int) -> list[Part]:
    """The parts of a generator that reads pictures of pixels x pixels, counted on the meta device.

    The warp is not among them, as it has no parameters and neither convolves nor multiplies matrices.
    """
    generator = Generator(head, config).to("meta")
    backbone, dpt, unet, decoder = generator.backbone, generator.dpt, generator.unet, generator.decoder
    with torch.device("meta"), torch.no_grad():
        features, first = _part(config.backbone, backbone, lambda: backbone(torch.rand(1, 3, pixels, pixels)))
        _, second = _part("DPT head", dpt, lambda: dpt(features.maps, (pixels // 2, pixels // 2)))
        chart = torch.rand(1, generator.entering, config.uv_size, config.uv_size)
        maps, third = _part("StyleUNet", unet, lambda: unet(chart, features.summary))
        codes = torch.rand(1, DIRECTION), torch.rand(1, CONDITION)
        _, fourth = _part("decoder and residual head", decoder, lambda: decoder(maps, *codes))
    return [first, second, third, fourth]


def _part(name: str, network: nn.Module, run: Callable) -> tuple:
    network.requires_grad_(False)  # without, the counter looks for gradients that no_grad has left out
    with Memory() as memory, FlopCounterMode(display=False) as counter:
        out = run()
    parameters = sum(p.numel() for p in network.parameters())
    return out, Part(name, parameters, counter.get_total_flops(), memory.peak)
