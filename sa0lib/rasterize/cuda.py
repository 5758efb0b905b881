"""The CUDA backend: gsplat, imported only when it is asked for."""

import torch


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height,
    near_plane, far_plane, eps2d, backgrounds, render_mode,
):  # fmt: skip
    """`gsplat.rasterization` with `covars2d` and `covars2d_blurred` added to its meta.

    Raises RuntimeError where there is no CUDA device or no gsplat, ValueError for tensors that are not on CUDA.
    """
    if not torch.cuda.is_available():
        raise RuntimeError('backend="cuda" needs a CUDA device and torch sees none: use backend="cpu"')
    if not means.is_cuda:
        raise ValueError('backend="cuda" needs CUDA tensors: move them with .cuda(), or use backend="cpu"')
    try:
        import gsplat
    except ImportError as error:
        raise RuntimeError('backend="cuda" needs gsplat: pip install gsplat') from error
    image, alpha, meta = gsplat.rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height,
        near_plane=near_plane, far_plane=far_plane, eps2d=eps2d, backgrounds=backgrounds,
        render_mode=render_mode, packed=False,
    )  # fmt: skip
    seen = (meta["radii"] > 0).all(-1, keepdim=True)  # [C, N, 1]: gsplat leaves the rest of `conics` unset
    circle = means.new_tensor([1.0, 0.0, 1.0])
    a, b, c = torch.where(seen, meta["conics"], circle).unbind(-1)
    det = a * c - b * b
    blurred = torch.stack([c / det, -b / det, a / det], -1)  # [C, N, 3]
    meta["covars2d_blurred"] = torch.where(seen, blurred, circle)
    meta["covars2d"] = torch.where(seen, blurred - eps2d * circle, circle)
    return image, alpha, meta
