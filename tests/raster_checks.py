"""How the rasterizer tests compare gradients: a loss that rounding cannot upset, its gradients, and their distance."""

import torch
from raster_scenes import INPUTS, Scene, threads, undecided_pixels


def random_loss(scene: Scene, channels: int, least_alpha=0.0, **margins):
    """A linear function of image and alpha with random weights, blind to pixels where rounding decides (`margins`).

    Blind in the image, too, where it is fainter than `least_alpha`: the expected depth divides by alpha.
    """
    camera, g = scene.cameras[0], torch.Generator().manual_seed(1)
    shape = len(scene.cameras), camera.height, camera.width
    decided = ~undecided_pixels(scene, **margins)[..., None]
    of_image = torch.randn(*shape, channels, generator=g) * decided
    of_alpha = torch.randn(*shape, 1, generator=g) * decided
    if least_alpha:
        of_image = of_image * (scene.reference()[1] >= least_alpha)

    def loss(image, alpha, meta):
        return (image * of_image.to(image.device)).sum() + (alpha * of_alpha.to(alpha.device)).sum()

    return loss


def gradients(
    scene: Scene, loss, backend: str, dtype=torch.float32, device="cpu", **options
) -> dict[str, torch.Tensor]:
    """dL/dinput of every input, in float64 on the CPU, for L = loss(image, alpha, meta)."""
    leaves = scene.leaves(dtype, device)
    with threads(1 if backend == "reference" else torch.get_num_threads()):
        value = loss(*scene.render(leaves, backend=backend, **options))
        grads = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return dict(zip(INPUTS, [grad.cpu().double() for grad in grads], strict=True))


def assert_close(got: dict, expected: dict, bound: float, names=INPUTS):
    """Per input: |got - expected| <= bound |expected| in the 2-norm, and entry by entry against the largest entry."""
    for name in names:
        error, size = got[name] - expected[name], expected[name]
        assert size.norm() > 0, name
        assert error.norm() <= bound * size.norm(), f"{name}: 2-norm {error.norm() / size.norm():.2e}"
        assert error.abs().max() <= 3 * bound * size.abs().max(), f"{name}: {error.abs().max() / size.abs().max():.2e}"
