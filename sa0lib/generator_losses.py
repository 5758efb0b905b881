"""The generator's objective, Eq. (2), with the forms of App. A.2: its weights, its sum, and its terms over the chart.

App. A.2 writes most terms as an L1 norm over a count. Here as there the norm adds channels, and the mean runs over
pixels, the pixels of a box, or the valid texels Omega. A batch is the mean of its images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa0lib.losses import at_least_float32, box_l1, expect_shape, l1, ms_ssim
from sa0lib.metrics import lpips
from sa0lib.uv import TexelPairs, texel_pairs

RESIDUALS = ("means", "quats", "log_scales", "colors")  # what the residual head corrects; opacity it leaves alone


@dataclass(frozen=True)
class GeneratorWeights:
    """The lambdas of Eq. (2). Defaults: the orders of magnitude of App. A.2, which is all it gives; 0 switches off."""

    l1: float = 1.0  # pixels of the whole image
    ms_ssim: float = 1.0  # 1 - MS-SSIM
    lpips: float = 1.0  # AlexNet
    box: float = 1.0  # pixels of the dilated face box, once more
    position_tv: float = 1e-2  # "ps": smoothness of local positions over the chart
    scale_tv: float = 1e-2  # "ss": smoothness of log-scales over the chart
    jacobian: float = 1e-1  # Eq. (3)
    delta: float = 1e-2  # shrinkage of the residual head; Phase 1 has none


PHASE_1, PHASE_2 = GeneratorWeights(delta=0.0), GeneratorWeights()


def generator_loss(
    rendered: Float[Tensor, "B 3 H W"],
    target: Float[Tensor, "B 3 H W"],
    face_box: Float[Tensor, "B 4"],
    positions: Float[Tensor, "B 3 N N"],
    log_scales: Float[Tensor, "B 3 N N"],
    deltas: Mapping[str, Float[Tensor, "B C N N"]],
    valid: Bool[Tensor, "N N"],
    jacobian: Float[Tensor, ""] | None,
    weights: GeneratorWeights,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Eq. (2): the weighted sum, and its terms before weighting, detached, under the names of `GeneratorWeights`.

    Images in [0, 1]; `face_box` x0 y0 x1 y1 in pixels, not dilated; `positions` in units of s_f; `log_scales` their
    natural logarithms; `deltas` the residual head's outputs by the names of `RESIDUALS`, empty without such a head;
    `jacobian` the value of Eq. (3), None where it is not computed. A term of weight 0 is not evaluated, and neither
    it nor a missing one is among the terms. All is computed in float32 or better, under autocast too.

    Raises ValueError for shapes that do not fit and for deltas of another name.
    """
    B, N = len(rendered), valid.shape[-1]
    expect_shape("rendered", rendered, (B, 3, None, None))
    expect_shape("target", target, tuple(rendered.shape))
    expect_shape("face_box", face_box, (B, 4))
    expect_shape("valid", valid, (N, N))
    expect_shape("positions", positions, (B, 3, N, N))
    expect_shape("log_scales", log_scales, (B, 3, N, N))
    _check_deltas(deltas, B, N)
    if jacobian is not None:
        expect_shape("jacobian", jacobian, ())

    with torch.autocast(rendered.device.type, enabled=False):
        rendered, target = at_least_float32(rendered), at_least_float32(target)
        terms = {
            "l1": lambda: l1(rendered, target),
            "ms_ssim": lambda: (1 - ms_ssim(rendered, target)).mean(),
            "lpips": lambda: lpips(rendered, target, net="alex").mean(),
            "box": lambda: box_l1(rendered, target, face_box),
            "position_tv": lambda: uv_tv(positions, valid),
            "scale_tv": lambda: uv_tv(log_scales, valid),
        }
        if jacobian is not None:
            terms["jacobian"] = lambda: at_least_float32(jacobian)
        if deltas:
            terms["delta"] = lambda: residual_shrinkage(deltas, valid)
        values = {name: term() for name, term in terms.items() if getattr(weights, name) != 0}
        total = sum((getattr(weights, name) * value for name, value in values.items()), rendered.new_zeros(()))
    return total, {name: value.detach() for name, value in values.items()}


def uv_tv(
    values: Float[Tensor, "B C N N"], valid: Bool[Tensor, "N N"], pairs: TexelPairs | None = None
) -> Float[Tensor, ""]:
    """L_ps and L_ss of App. A.2: sum over Omega of ||forward difference in u||_1 + ||in v||_1, over |Omega|.

    In the units of `values`. A difference counts where both texels are valid, across seams too, as in the paper;
    with `pairs` only theirs count, still over |Omega|: with `seam_pairs`, what the seams contribute.
    """
    expect_shape("values", values, (None, None, *valid.shape))
    values = at_least_float32(values)
    total = 0.0
    for step, both in zip((values.diff(dim=3), values.diff(dim=2)), pairs or texel_pairs(valid), strict=True):
        total = total + step.masked_fill(~both, 0).abs().sum()
    return total / (len(values) * valid.sum())


def residual_shrinkage(deltas: Mapping[str, Float[Tensor, "B C N N"]], valid: Bool[Tensor, "N N"]) -> Float[Tensor, ""]:
    """L_delta of App. A.2: ||delta||_1 over Omega, added over `RESIDUALS`, over |Omega|.

    Raises ValueError for a delta of another name (opacity has none) or shape.
    """
    _check_deltas(deltas, None, valid.shape[-1])
    sums = [at_least_float32(delta).masked_fill(~valid, 0).abs().sum() / len(delta) for delta in deltas.values()]
    return sum(sums) / valid.sum()


def _check_deltas(deltas: Mapping[str, Tensor], B: int | None, N: int) -> None:
    unknown = set(deltas) - set(RESIDUALS)
    if unknown:
        raise ValueError(f"the residual head corrects {', '.join(RESIDUALS)}, not {', '.join(sorted(unknown))}")
    for name, delta in deltas.items():
        expect_shape(f"deltas[{name!r}]", delta, (B, None, N, N))
