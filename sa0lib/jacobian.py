"""View-direction invariance of the geometry heads: the randomised Jacobian penalty of Sec. 3.2 and App. A.3.

A *head* is an output of the decoder: a map [B, C, H, W], or a list of texels [B, P, C]. `gamma` is the tensor [B, D]
that all of them were computed from, with requires_grad: the 27 harmonics of the view direction, or that direction
itself. J is the Jacobian of all that counts (heads, texels of Omega, channels) with respect to gamma, for one
sample of the batch. Samples must not see one another (no batch norm), so one backward pass serves all of them.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Heads = Sequence[Float[Tensor, "B ..."]]
Mask = Bool[Tensor, "H W"] | None
TANGENTS_AT_ONCE = 9  # of 27 in `exact_energy`: as fast as all together on small maps, faster on large, less memory


def jacobian_penalty(
    heads: Heads, gamma: Float[Tensor, "B D"], mask: Mask = None, generator: torch.Generator | None = None
) -> Float[Tensor, ""]:
    """Eq. (3): log(1 + X), X the draw of `squared_projection`, averaged over the batch. Differentiable: train with it.

    The paper does not say where the batch goes. Here each sample has a logarithm of its own. As in Eq. (3), and unlike
    Eq. (9), X is a sum over texels and not a mean: it grows with the map. Raises what `squared_projection` raises.
    """
    return squared_projection(heads, gamma, mask, generator).log1p().mean()


def squared_projection(
    heads: Heads, gamma: Float[Tensor, "B D"], mask: Mask = None, generator: torch.Generator | None = None
) -> Float[Tensor, " B"]:
    """Eq. (11): one draw of the sum over heads of ||grad g||^2, whose expectation is ||J||_F^2. Differentiable.

    g is the sum over texels of <v, f>, with signs v drawn anew for every head, sample, texel and channel. Each head
    gets its own backward pass: the sum of squares that Eq. (3) prints, which varies less than the square of the sum
    that one pass over all heads gives. Where heads are parallel branches, as the paper's are, both cost the same.

    `mask` [H, W] is Omega; texels outside do not count. Raises ValueError for a gamma that is no [B, D] or wants no
    gradient, for heads of other shapes, and for a head that does not depend on gamma.
    """
    return _squared_gradients(heads, [random_signs(head, generator) for head in heads], gamma, mask)


def random_signs(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent +1 and -1 with equal chance (Rademacher), in the shape, type and place of a tensor."""
    return torch.empty_like(like).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)


def pixel_sum_energy(heads: Heads, gamma: Float[Tensor, "B D"], mask: Mask = None) -> Float[Tensor, " B"]:
    """App. A.3's counterexample: sum over heads of ||grad of the plain sum of all outputs||^2, all signs being +1.

    As cheap as `squared_projection`, and zero already where texels lean on the view direction in ways that cancel.
    Raises ValueError as `squared_projection` does.
    """
    return _squared_gradients(heads, [torch.ones_like(head) for head in heads], gamma, mask)


def exact_energy(
    function: Callable[[Tensor], Heads], gamma: Float[Tensor, "B D"], mask: Mask = None
) -> Float[Tensor, " B"]:
    """|Omega| times Eq. (9): ||J||_F^2 without randomness, for a function from gamma to heads. Differentiable.

    By columns of J: forward mode turns one of the D inputs into the derivative of every output, so D tangents make the
    whole Jacobian, however many texels there are.

    Raises ValueError for a gamma that is no [B, D] and for heads of other shapes.
    """
    _check_gamma(gamma)

    def checked(gamma: Float[Tensor, "B D"]) -> Heads:
        heads = function(gamma)
        _check_shapes(heads, gamma, mask)
        return heads

    def along(tangent: Float[Tensor, " D"]) -> Float[Tensor, " B"]:
        _, columns = torch.func.jvp(checked, (gamma,), (tangent.expand_as(gamma),))
        return sum(_within(column, mask).square().flatten(1).sum(1) for column in columns)

    tangents = torch.eye(gamma.shape[-1], dtype=gamma.dtype, device=gamma.device)
    return torch.func.vmap(along, chunk_size=TANGENTS_AT_ONCE)(tangents).sum(0)


def two_point_proxy(heads: Heads, reference: Heads, mask: Mask = None) -> Float[Tensor, " B"]:
    """Eq. (10): L1 distance between the heads at a view direction and the same heads at a reference direction.

    Raises ValueError where the two differ in shape.
    """
    if [head.shape for head in heads] != [head.shape for head in reference]:
        raise ValueError("the two points have heads of different shapes")
    pairs = zip(heads, reference, strict=True)
    return sum(_within(head - other, mask).abs().flatten(1).sum(1) for head, other in pairs)


def _squared_gradients(
    heads: Heads, weights: Sequence[Tensor], gamma: Float[Tensor, "B D"], mask: Mask
) -> Float[Tensor, " B"]:
    """Sum over heads of ||grad_gamma <weights, head>||^2, for each sample."""
    _check_gamma(gamma)
    if not gamma.requires_grad:
        raise ValueError("gamma has requires_grad=False: set it before the heads are computed from it")
    _check_shapes(heads, gamma, mask)
    total = gamma.new_zeros(len(gamma))
    for i, (head, weight) in enumerate(zip(heads, weights, strict=True)):
        slope = None
        if head.requires_grad:
            slope = torch.autograd.grad(head, gamma, _within(weight, mask), create_graph=True, allow_unused=True)[0]
        if slope is None:
            raise ValueError(f"head {i} does not depend on gamma: was it computed from this very tensor?")
        total = total + slope.square().sum(-1)
    return total


def _within(values: Tensor, mask: Mask) -> Tensor:
    return values if mask is None else values * mask


def _check_gamma(gamma: Tensor) -> None:
    if gamma.ndim != 2:
        raise ValueError(f"gamma must be [B, D], not {list(gamma.shape)}")


def _check_shapes(heads: Heads, gamma: Tensor, mask: Mask) -> None:
    if isinstance(heads, Tensor) or not heads:
        raise ValueError("heads must be a list or tuple of tensors, also when there is only one")
    for i, head in enumerate(heads):
        if head.ndim not in (3, 4) or len(head) != len(gamma):
            raise ValueError(f"head {i} must be [B, C, H, W] or [B, P, C], B = {len(gamma)}, not {list(head.shape)}")
        if mask is not None and (head.ndim != 4 or head.shape[-2:] != mask.shape):
            raise ValueError(f"mask {list(mask.shape)} does not fit head {i}, {list(head.shape)}")
