"""Lets PyPI's torchvision, a CUDA build, be imported beside a CPU build of torch."""

from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def declare_torchvision_operators() -> torch.library.Library | None:
    """To be called before anything that imports torchvision (the `lpips` package, `transformers`).

    Its compiled half cannot load there, and the import stops where it registers shapes for two operators of that half.
    Declared, they are enough for everything in plain PyTorch, which is all that is used. Kept alive by the cache.
    """
    if torch.version.cuda is not None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
