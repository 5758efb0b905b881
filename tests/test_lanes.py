"""Threads around the kernels: how many, whose, and what is left behind."""

import os
import subprocess
import sys

import pytest
import torch

from sa0lib.lanes import kernel_threads, threads_for_kernels


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def workers() -> int:
    with kernel_threads() as count:
        return count


def test_kernels_run_on_as_many_threads_as_torch(two_threads):
    most = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count()))
    assert workers() == min(2, most)
    torch.set_num_threads(1)
    assert workers() == 1


def test_inside_torch_has_one_thread_and_kernels_keep_theirs(two_threads):
    outside = workers()
    with threads_for_kernels():
        assert torch.get_num_threads() == 1 and workers() == outside
        with threads_for_kernels():
            assert torch.get_num_threads() == 1 and workers() == outside
        assert torch.get_num_threads() == 1 and workers() == outside
    assert torch.get_num_threads() == 2 and workers() == outside


def test_an_error_inside_leaves_torch_as_it_was(two_threads):
    @threads_for_kernels()
    def fail():
        raise KeyError("inside")

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert torch.get_num_threads() == 2


def test_everything_is_bit_equal_on_one_to_five_threads():
    """In a process of its own, because numba counts the cores when it starts and takes no more threads than that."""
    code = """
import torch
from raster_scenes import head_scene
from sa0lib.binding import bind, triangle_frames
from sa0lib.lanes import kernel_threads
from sa0lib.metrics import ssim

def everything():
    leaves = scene.leaves()
    image, alpha, meta = scene.render(leaves)
    similarity = ssim(image.permute(0, 3, 1, 2), target)
    (image.square().sum() + alpha.sum() + meta["covars2d"].sum() + similarity.sum()).backward()
    bound = bind(*scene.leaves()[:3], face, frames)
    return [image, alpha, similarity, *bound, *(leaf.grad for leaf in leaves)]

scene, target = head_scene(size=96, count=9000), torch.rand(1, 3, 96, 96)
frames = triangle_frames(torch.rand(2, 6, 3), torch.tensor([[0, 1, 2], [3, 4, 5]]))
face = torch.arange(9000) % 2
first = None
for count in (1, 2, 3, 5):
    torch.set_num_threads(count)
    with kernel_threads() as workers:
        assert workers == count
    results = everything()
    first = first or results
    assert all(torch.equal(a, b) for a, b in zip(first, results, strict=True)), count
"""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "5", "PYTHONPATH": os.path.dirname(__file__)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
