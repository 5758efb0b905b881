"""The CUDA backend: gsplat, imported only when it is asked for."""

import torch


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height,
    near_plane, far_plane, eps2d, backgrounds, render_mode,
):  # fmt: skip
    """`gsplat.rasterization` with `covars2d` and `covars2d_blurred` added to its meta.

    gsplat computes nothing for Gaussians that are not drawn (radii 0): their entries of meta are zero here, the two
    covariances the unit circle, and none has a gradient.

    Raises RuntimeError where there is no CUDA device, no gsplat or no CUDA toolkit to compile it; ValueError for
    tensors that are not on CUDA.
    """
    if not torch.cuda.is_available():
        raise RuntimeError('backend="cuda" needs a CUDA device and torch sees none: use backend="cpu"')
    if not means.is_cuda:
        raise ValueError('backend="cuda" needs CUDA tensors: move them with .cuda(), or use backend="cpu"')
    try:
        import gsplat
        from gsplat.cuda._backend import _C
    except ImportError as error:
        raise RuntimeError('backend="cuda" needs gsplat: pip install gsplat') from error
    if _C is None:
        raise RuntimeError('backend="cuda": gsplat found no CUDA toolkit to compile itself with; install one with nvcc')
    if len(means) == 0:  # gsplat divides by their number
        return empty_scene(means, colors, len(viewmats), width, height, backgrounds, render_mode)
    image, alpha, meta = gsplat.rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height,
        near_plane=near_plane, far_plane=far_plane, eps2d=eps2d, backgrounds=backgrounds,
        render_mode=render_mode, packed=False,
    )  # fmt: skip
    drawn = (meta["radii"] > 0).all(-1, keepdim=True)  # [C, N, 1]
    circle = means.new_tensor([1.0, 0.0, 1.0])
    a, b, c = torch.where(drawn, meta["conics"], circle).unbind(-1)
    det = a * c - b * b
    blurred = torch.stack([c / det, -b / det, a / det], -1)  # [C, N, 3]
    meta["covars2d_blurred"] = torch.where(drawn, blurred, circle)
    meta["covars2d"] = torch.where(drawn, blurred - eps2d * circle, circle)
    for name, mask in (("means2d", drawn), ("conics", drawn), ("depths", drawn[..., 0])):
        meta[name] = torch.where(mask, meta[name], 0)
    return image, alpha, meta


def empty_scene(means, colors, cameras, width, height, backgrounds, render_mode):
    """What `rasterization` returns for no Gaussians: the background, over depth zero."""
    image = means.new_zeros(cameras, height, width, colors.shape[-1])
    if backgrounds is not None:
        image = image + backgrounds[:, None, None]
    depth = means.new_zeros(cameras, height, width, 1)
    image = {"RGB": image, "D": depth, "ED": depth}.get(render_mode, torch.cat([image, depth], -1))
    triple = means.new_zeros(cameras, 0, 3)
    meta = {"means2d": triple[..., :2], "depths": triple[..., 0], "radii": triple[..., :2].int()}
    return image, depth, meta | {name: triple for name in ("conics", "covars2d", "covars2d_blurred")}
