"""Memory, counted by hand."""

import pytest
import torch

from sa0lib.cost import Memory, generator_parts
from sa0lib.head import load_head
from sa0lib.nets import GeneratorConfig


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_alive_at_one_time_counts_and_what_is_freed_does_not(device):
    x = torch.ones(1000, device=device)  # was there before
    with Memory() as memory:
        y = x + 1  # 4 kB
        del y
        z = x.double()  # 8 kB
        w = z * 2  # 8 kB more
    assert memory.peak == 16_000 and memory.live == 16_000
    del z, w
    assert memory.live == 0


def test_a_view_costs_nothing():
    with Memory() as memory:
        x = torch.zeros(10, 10)
        x.T[3:].unsqueeze(0)
    assert memory.peak == 400


def test_what_the_backward_pass_needs_is_kept():
    x = torch.ones(1000, requires_grad=True)
    with Memory() as memory:
        y = x.exp().exp()  # both are needed
        assert memory.live == 8_000
        y.sum().backward()
    assert memory.peak >= 12_000


def test_the_parts_of_a_small_generator_by_hand():
    config = GeneratorConfig("alexnet", 8, dense_channels=8, warped_channels=6, width=0.03, style=12, hidden=10)
    parts = {part.name: part for part in generator_parts(load_head(), config, 64)}
    decoder = parts["decoder and residual head"]
    heads = sum(n * 10 + n for n in (3, 4, 3, 3, 1)) + 5 * (32 * 10 * 9 + 10 + 27 * 10)
    residual = 112 * 10 + 10 + 10 * 256 + 256 + sum(n * 32 + n for n in (3, 4, 3, 3))
    assert decoder.parameters == heads + residual
    convolutions = 8 * 8 * (5 * 32 * 10 * 9 + 14 * 10 + 13 * 32)
    assert decoder.operations == 2 * (convolutions + 5 * 27 * 10 + 112 * 10 + 10 * 256)
    assert all(part.peak_bytes > 0 for part in parts.values())


def test_alexnets_parameters_are_the_published_number():
    backbone, *_ = generator_parts(load_head(), GeneratorConfig("alexnet", 8), 64)
    assert backbone.parameters == 2_469_696  # of its five convolutions (Krizhevsky 2014, one tower)
