"""Intel's Open Image Denoise for the renderer's pictures: a few light paths a pixel instead of thousands."""

import numpy as np
import pyoidn
from jaxtyping import Float
from numpy import ndarray


class Denoiser:
    """Removes the noise of square pictures of one size and of their mattes, on one thread.

    Albedo and normals, which are noisy themselves where edges or strands share a pixel, are cleaned first; colour and
    matte are then guided by the clean ones.
    """

    def __init__(self, size: int):
        self.images = {name: np.zeros((size, size, 3), np.float32) for name in ("color", "albedo", "normal", "mask")}
        self.clean = {name: np.zeros((size, size, 3), np.float32) for name in self.images}
        self.device = pyoidn.Device()
        self.device.set_int("numThreads", 1)
        self.device.set_bool("setAffinity", False)  # or the one thread of every process sits on the same core
        self.device.commit()
        guides = {"albedo": self.clean["albedo"], "normal": self.clean["normal"]}
        self.filters = [
            self._filter("albedo", {"albedo": self.images["albedo"]}, {}),
            self._filter("normal", {"normal": self.images["normal"]}, {}),
            self._filter("color", {"color": self.images["color"], **guides}, {"hdr": True, "cleanAux": True}),
            self._filter("mask", {"color": self.images["mask"], **guides}, {"cleanAux": True}),
        ]  # run in this order

    def _filter(self, output: str, inputs: dict[str, ndarray], switches: dict[str, bool]) -> pyoidn.Filter:
        new = pyoidn.Filter(self.device, pyoidn.OIDN_FILTER_TYPE_RT)
        for name, image in {**inputs, "output": self.clean[output]}.items():
            new.set_image(name, image, pyoidn.OIDN_FORMAT_FLOAT3)
        for name, value in switches.items():
            new.set_bool(name, value)
        new.set_quality(pyoidn.OIDN_QUALITY_BALANCED)  # half the time of the largest networks
        new.commit()
        return new

    def __call__(
        self,
        color: Float[ndarray, "H W 3"],
        mask: Float[ndarray, "H W"],
        albedo: Float[ndarray, "H W 3"],
        normal: Float[ndarray, "H W 3"],
    ) -> tuple[Float[ndarray, "H W 3"], Float[ndarray, "H W"]]:
        """Clean colour, linear, and clean matte. Raises RuntimeError with the library's words where it fails."""
        for name, image in (("color", color), ("mask", mask[..., None]), ("albedo", albedo), ("normal", normal)):
            self.images[name][:] = image
        for each in self.filters:
            each.execute()
        if error := self.device.get_error():
            raise RuntimeError(f"Open Image Denoise: {error}")
        return self.clean["color"].copy(), self.clean["mask"].mean(-1)
