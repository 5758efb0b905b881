"""What `rasterization` refuses: one ValueError that names the argument, on every backend, before anything is drawn."""

import pytest
import torch

from sa0lib import camera as cam
from sa0lib.rasterize import rasterization

BACKENDS = ["cpu", "reference"]
NAN, INF = float("nan"), float("inf")
GOOD = dict(
    means=torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]),
    quats=torch.ones(2, 4),
    scales=torch.full((2, 3), 0.1),
    opacities=torch.full((2,), 0.5),
    colors=torch.ones(2, 3),
    viewmats=torch.eye(4)[None],
    Ks=cam.intrinsics(8.0, 8, 8)[None],
    backgrounds=torch.ones(1, 3),
    width=8,
    height=8,
)
TENSORS = [name for name, value in GOOD.items() if isinstance(value, torch.Tensor)]


def refused(message, **change):
    """Both backends take GOOD, and answer `change` with a ValueError that says `message`."""
    for backend in BACKENDS:
        rasterization(**GOOD, backend=backend)
        with pytest.raises(ValueError, match=message):
            rasterization(**{**GOOD, "backend": backend, **change})


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_refused_by_name(name, value):
    tensor = GOOD[name].clone()
    tensor.view(-1)[-1] = value
    place = ", ".join(str(n - 1) for n in tensor.shape)
    refused(rf"{name} holds 1 NaN or infinite entries, the first at \[{place}\]", **{name: tensor})


def test_infinities_that_cancel_are_refused():
    refused("means holds 2 NaN or infinite", means=torch.tensor([[INF, 0.0, 1.0], [-INF, 0.0, 1.0]]))


@pytest.mark.parametrize("name", TENSORS)
def test_a_wrong_shape_is_refused_by_name(name):
    value = GOOD[name]
    wrong = [value[None], value[0], torch.tensor(1.0)]
    if name not in ("means", "viewmats"):  # those say how many there are
        wrong += [torch.cat([value, value[:1]]), value[:0]]
    if name not in ("opacities", "colors"):
        wrong += [torch.cat([value, value[..., :1]], -1), value[..., 1:]]
    for tensor in wrong:
        refused(rf"^{name} must be \[", **{name: tensor})


@pytest.mark.parametrize("name", TENSORS)
def test_a_wrong_dtype_or_device_is_refused_by_name(name):
    for dtype in (torch.float64, torch.float16, torch.int64):
        other = "quats" if name == "means" else name  # the reference takes its dtype from means
        with pytest.raises(ValueError, match=f"{name} is torch."):
            rasterization(**{**GOOD, name: GOOD[name].to(dtype)}, backend="cpu")
        refused(f"{other} is torch.", **{other: GOOD[other].to(dtype)})
    if name != "means":
        refused(f"{name} is on meta", **{name: GOOD[name].to("meta")})


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(colors=torch.ones(2, 0), backgrounds=torch.ones(1, 0)), "colors has no channels"),
        (dict(width=0), "width and height"),
        (dict(height=-8), "width and height"),
        (dict(width=8.0), "width and height"),
        (dict(height=NAN), "width and height"),
        (dict(near_plane=0.0), "near_plane"),
        (dict(near_plane=NAN), "near_plane"),
        (dict(far_plane=NAN), "far_plane"),
        (dict(near_plane=2.0, far_plane=1.0), "near_plane < far_plane"),
        (dict(eps2d=NAN), "eps2d"),
        (dict(eps2d=INF), "eps2d"),
        (dict(eps2d=-0.1), "eps2d"),
        (dict(opacities=torch.tensor([0.5, 1.5])), "opacities must lie in .* sigmoid"),
        (dict(opacities=torch.tensor([0.5, -0.1])), "opacities must lie in .* sigmoid"),
        (dict(scales=torch.full((2, 3), -3.0)), "scales has negative.*log-scales need an exp"),
        (dict(Ks=torch.tensor([[[40.0, 1, 12], [0, 40, 10], [0, 0, 1]]])), "Ks has skew"),
        (dict(viewmats=torch.eye(4)[None].requires_grad_()), r"viewmats requires a gradient.*detach"),
        (dict(Ks=torch.eye(3)[None].requires_grad_()), r"Ks requires a gradient.*detach"),
        (dict(render_mode="RGBD"), "render_mode must be one of"),
        (dict(backend="gpu"), "backend must be one of"),
    ],
)
def test_bad_input_is_one_error_that_names_it(change, message):
    refused(message, **change)
