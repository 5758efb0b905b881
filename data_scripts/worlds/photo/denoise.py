"""Intel's Open Image Denoise for the renderer's pictures: a few light paths a pixel instead of thousands."""

import numpy as np
import pyoidn
from jaxtyping import Float
from numpy import ndarray


class Denoiser:
    """Removes the noise of a part of a picture and of its matte, on one thread.

    Albedo and normals, which are noisy themselves where edges or strands share a pixel, are cleaned first; colour and
    matte are then guided by the clean ones.
    """

    def __init__(self):
        self.device = pyoidn.Device()
        self.device.set_int("numThreads", 1)
        self.device.set_bool("setAffinity", False)  # or the one thread of every process sits on the same core
        self.device.commit()
        self.rooms: dict[tuple[int, int], _Room] = {}  # by height and width

    def __call__(
        self,
        color: Float[ndarray, "H W 3"],
        mask: Float[ndarray, "H W"],
        albedo: Float[ndarray, "H W 3"],
        normal: Float[ndarray, "H W 3"],
        part: tuple[slice, slice],
    ) -> tuple[Float[ndarray, "H W 3"], Float[ndarray, "H W"]]:
        """Clean colour, linear, and clean matte; outside `part` (rows, columns) they are left as they are.

        Raises RuntimeError with the library's words where it fails.
        """
        size = color[part].shape[:2]
        if size not in self.rooms:
            self.rooms[size] = _Room(self.device, *size)
        clean = self.rooms[size](
            color=color[part], mask=mask[part][..., None], albedo=albedo[part], normal=normal[part]
        )
        if error := self.device.get_error():
            raise RuntimeError(f"Open Image Denoise: {error}")
        color, mask = color.copy(), mask.copy()
        color[part], mask[part] = clean["color"], clean["mask"].mean(-1)
        return color, mask


class _Room:
    """Memory and networks for pictures of one size."""

    def __init__(self, device: pyoidn.Device, height: int, width: int):
        self.device, shape = device, (height, width, 3)
        self.images = {name: np.zeros(shape, np.float32) for name in ("color", "albedo", "normal", "mask")}
        self.clean = {name: np.zeros(shape, np.float32) for name in self.images}
        guides = {"albedo": self.clean["albedo"], "normal": self.clean["normal"]}
        fast = pyoidn.OIDN_QUALITY_FAST  # for colour as good as BALANCED in two thirds of its time; not for mattes
        self.filters = [
            self._filter("albedo", {"albedo": self.images["albedo"]}, {}),
            self._filter("normal", {"normal": self.images["normal"]}, {}),
            self._filter("color", {"color": self.images["color"], **guides}, {"hdr": True, "cleanAux": True}, fast),
            self._filter("mask", {"color": self.images["mask"], **guides}, {"cleanAux": True}),
        ]  # run in this order

    def _filter(
        self,
        output: str,
        inputs: dict[str, ndarray],
        switches: dict[str, bool],
        quality: int = pyoidn.OIDN_QUALITY_BALANCED,  # half the time of the largest networks
    ) -> pyoidn.Filter:
        new = pyoidn.Filter(self.device, pyoidn.OIDN_FILTER_TYPE_RT)
        for name, image in {**inputs, "output": self.clean[output]}.items():
            new.set_image(name, image, pyoidn.OIDN_FORMAT_FLOAT3)
        for name, value in switches.items():
            new.set_bool(name, value)
        new.set_quality(quality)
        new.commit()
        return new

    def __call__(self, **noisy: Float[ndarray, "H W C"]) -> dict[str, Float[ndarray, "H W 3"]]:
        for name, image in noisy.items():
            self.images[name][:] = image
        for each in self.filters:
            each.execute()
        return self.clean
