"""A pinhole camera, and the ways into it from the conventions that the field's files use.

Here: OpenCV axes (x right, y down, z forward), `viewmat` maps world to camera and acts on column vectors,
`K` is in pixels, the centre of pixel (row i, column j) is (j + 0.5, i + 0.5). Lengths are metres.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sa0lib.rotation import normalize


@dataclass
class Camera:
    """A pinhole camera. Raises ValueError if K or viewmat has another shape, or the image no pixels."""

    K: Float[Tensor, "3 3"]  # intrinsics, pixels
    viewmat: Float[Tensor, "4 4"]  # world to camera, rotation and translation in metres
    width: int  # pixels
    height: int  # pixels

    def __post_init__(self):
        for name, shape in (("K", (3, 3)), ("viewmat", (4, 4))):
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Camera.{name} must be {shape}, not {tuple(getattr(self, name).shape)}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"Camera needs pixels, not width {self.width} and height {self.height}")

    def resized(self, width: int, height: int) -> "Camera":
        """The same view on another pixel grid: continuous coordinates scale, pixel centres stay at +0.5."""
        factor = self.K.new_tensor([width / self.width, height / self.height, 1.0])  # [3]
        return Camera(self.K * factor[:, None], self.viewmat, width, height)

    def to(self, *args, **kwargs) -> "Camera":
        """`Tensor.to` on both matrices."""
        K, viewmat = self.K.to(*args, **kwargs), self.viewmat.to(*args, **kwargs)
        return Camera(K, viewmat, self.width, self.height)

    def project(self, points: Float[Tensor, "... 3"]) -> tuple[Float[Tensor, "... 2"], Float[Tensor, "..."]]:
        """World points in metres to (xy in pixels, depth along the viewing axis in metres)."""
        in_camera = points @ self.viewmat[:3, :3].T + self.viewmat[:3, 3]  # [..., 3]
        homogeneous = in_camera @ self.K.T  # [..., 3]
        return homogeneous[..., :2] / homogeneous[..., 2:], in_camera[..., 2]

    @property
    def center(self) -> Float[Tensor, "3"]:
        """The optical centre in world coordinates, metres."""
        return -self.viewmat[:3, :3].T @ self.viewmat[:3, 3]

    @property
    def direction(self) -> Float[Tensor, "3"]:
        """The unit viewing direction in world coordinates, the d of the harmonic encoding (App. A.1).

        The paper calls it the third column of the world-to-camera matrix: true of the row-vector matrix of
        its tracker (x R + T). In the column-vector `viewmat` used here the same vector is the third row.
        """
        return normalize(self.viewmat[2, :3])


def intrinsics(focal: float, width: int, height: int) -> Float[Tensor, "3 3"]:
    """K of square pixels with the principal point in the middle of the image; focal length in pixels."""
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def invert_rigid(matrix: Float[Tensor, "... 4 4"]) -> Float[Tensor, "... 4 4"]:
    """Inverse of a rotation plus translation. Raises ValueError where the 3x3 block is no rotation."""
    R, t = matrix[..., :3, :3], matrix[..., :3, 3:]
    error = (R @ R.mT - torch.eye(3, dtype=R.dtype, device=R.device)).abs().max()
    if not (error < 1e-3 and (torch.linalg.det(R) > 0).all()):
        raise ValueError(
            f"a camera matrix must hold a rotation: R R^T is off the identity by {float(error):.3g}, "
            f"smallest determinant {float(torch.linalg.det(R).min()):.3g} (scale or mirroring inside?)"
        )
    inverse = torch.zeros_like(matrix)
    inverse[..., :3, :3] = R.mT
    inverse[..., :3, 3:] = -R.mT @ t
    inverse[..., 3, 3] = 1
    return inverse


def from_opengl_c2w(c2w: Float[Tensor, "... 4 4"]) -> Float[Tensor, "... 4 4"]:
    """`viewmat` of a camera-to-world matrix with OpenGL axes (x right, y up, z backward).

    This is `transform_matrix` in the `transforms.json` of NeRF, VHAP and GaussianAvatars (INSTA writes OpenCV axes).
    Raises ValueError if it holds scale or mirroring.
    """
    return invert_rigid(c2w * c2w.new_tensor([1, -1, -1, 1]))  # the camera's y and z axes are its columns


def to_opengl_c2w(viewmat: Float[Tensor, "... 4 4"]) -> Float[Tensor, "... 4 4"]:
    """The inverse of `from_opengl_c2w`: what a `transforms.json` wants."""
    return invert_rigid(viewmat) * viewmat.new_tensor([1, -1, -1, 1])


def from_pytorch3d(
    R: Float[Tensor, "3 3"],
    T: Float[Tensor, "3"],
    focal_length: tuple[float, float],
    principal_point: tuple[float, float],
    width: int,
    height: int,
) -> Camera:
    """A PyTorch3D PerspectiveCameras (in NDC units) as a Camera.

    PyTorch3D works on row vectors, x_cam = x R + T, with x left and y up; its NDC unit is half of the shorter
    image side, and its principal point is measured from the centre along those flipped axes.
    """
    flip = R.new_tensor([-1, -1, 1])
    viewmat = torch.eye(4, dtype=R.dtype, device=R.device)
    viewmat[:3, :3] = flip[:, None] * R.T
    viewmat[:3, 3] = flip * T
    unit = min(width, height) / 2
    K = torch.eye(3, dtype=R.dtype, device=R.device)
    K[0, 0], K[1, 1] = focal_length[0] * unit, focal_length[1] * unit
    K[0, 2], K[1, 2] = width / 2 - principal_point[0] * unit, height / 2 - principal_point[1] * unit
    return Camera(K, viewmat, width, height)


GAGAVATAR_FOCAL = 12.0  # NDC focal length that GAGAvatar_track uses for every frame
GAGAVATAR_MESH_SCALE = 5.0  # it multiplies FLAME vertices by this before its camera


def from_gagavatar_track(transform_matrix: Float[Tensor, "3 4"], size: int = 512) -> Camera:
    """A GAGAvatar_track `transform_matrix` as the Camera of a mesh in metres, `size` pixels square.

    The tracker looks at a FLAME mesh scaled by 5 with a PyTorch3D camera of NDC focal length 12 (3072 px at
    512). Scene and translation divided by the same number give the same picture: the translation is, by 5.
    Raises ValueError if the shape is not [3, 4].
    """
    if tuple(transform_matrix.shape) != (3, 4):
        raise ValueError(f"transform_matrix must be [3, 4], not {list(transform_matrix.shape)}")
    focal = (GAGAVATAR_FOCAL, GAGAVATAR_FOCAL)
    translation = transform_matrix[:, 3] / GAGAVATAR_MESH_SCALE
    return from_pytorch3d(transform_matrix[:, :3], translation, focal, (0.0, 0.0), size, size)


def look_at(
    eye: Float[Tensor, "... 3"], target: Float[Tensor, "... 3"], up: Float[Tensor, "... 3"]
) -> Float[Tensor, "... 4 4"]:
    """`viewmat` of a camera at `eye` that sees `target` in its centre, with `up` upwards in the image.

    Raises ValueError if eye and target coincide or `up` lies along the view.
    """
    eye, target, up = torch.broadcast_tensors(eye, target, up)
    z = normalize(target - eye)
    side = torch.linalg.cross(z, up)  # [..., 3]
    if not (side.norm(dim=-1) > 1e-6 * up.norm(dim=-1)).all():
        raise ValueError("look_at: eye and target coincide, or up is parallel to the viewing direction")
    x = normalize(side)
    R = torch.stack([x, torch.linalg.cross(z, x), z], -2)  # [..., 3, 3]
    viewmat = torch.zeros(*R.shape[:-2], 4, 4, dtype=R.dtype, device=R.device)
    viewmat[..., :3, :3] = R
    viewmat[..., :3, 3] = -(R @ eye[..., None])[..., 0]
    viewmat[..., 3, 3] = 1
    return viewmat


def orbit(
    azimuth: Float[Tensor, "..."] | float,
    elevation: Float[Tensor, "..."] | float,
    distance: Float[Tensor, "..."] | float,
    target: Float[Tensor, "3"],
) -> Float[Tensor, "... 4 4"]:
    """`viewmat` of a camera on a sphere around `target` (metres), looking at it; angles in radians.

    Azimuth 0, elevation 0 is straight in front of a face that looks along +z. Positive azimuth goes to the
    subject's left (+x), positive elevation upwards; elevation must stay off the poles (ValueError).
    """
    angles = [torch.as_tensor(a, dtype=target.dtype) for a in (azimuth, elevation, distance)]
    azimuth, elevation, distance = torch.broadcast_tensors(*angles)
    horizontal = elevation.cos()
    unit = torch.stack([azimuth.sin() * horizontal, elevation.sin(), azimuth.cos() * horizontal], -1)
    offset = unit * distance[..., None]  # [..., 3]
    return look_at(target + offset, target, target.new_tensor([0.0, 1.0, 0.0]))
