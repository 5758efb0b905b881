"""Small trees of exactly the formats that GAGAvatar_track, INSTA and SplattingAvatar write, made from a known head.

Every toy also says where that format's own camera puts the head's vertices in the picture, computed here in the
format's own convention and never through sa0lib.camera: that is what the adapters are checked against.
"""

import io
import json
import pickle
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from sa0lib.head import WIDTHS, Head, load_head

SCALES = {"shape": 1.0, "expr": 1.0, "rotation": 0.2, "neck": 0.1, "jaw": 0.1, "eyes": 0.1, "translation": 0.0}


@cache
def head() -> Head:
    return load_head()


def codes(rng: np.random.Generator, **fixed: np.ndarray) -> dict[str, np.ndarray]:
    """Head.forward's keywords, float32; what is given as 0 is zero."""
    drawn = {name: (SCALES[name] * rng.normal(size=width)).astype(np.float32) for name, width in WIDTHS.items()}
    return drawn | {name: np.broadcast_to(np.float32(value), WIDTHS[name]).copy() for name, value in fixed.items()}


def vertices(params: dict[str, np.ndarray]) -> np.ndarray:
    """[V, 3] metres, float64."""
    with torch.no_grad():
        return head()(**{name: torch.from_numpy(code[None]) for name, code in params.items()})[0].double().numpy()


def noise(rng: np.random.Generator, size: int, channels: int = 3) -> np.ndarray:
    """A soft picture, so that JPEG keeps it."""
    small = rng.integers(0, 256, (8, 8, channels), dtype=np.uint8)
    bands = [Image.fromarray(small[..., c]).resize((size, size), Image.Resampling.BILINEAR) for c in range(channels)]
    return np.stack([np.asarray(band) for band in bands], -1)


def matte(size: int) -> np.ndarray:
    out = np.zeros((size, size), np.uint8)
    out[size // 8 : size // 2, size // 4 : size // 2] = 255
    return out


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def orthogonal(rng: np.random.Generator, angle: float = 0.3) -> np.ndarray:
    return Rotation.from_rotvec(angle * rng.normal(size=3)).as_matrix()


@dataclass
class Truth:
    """What a frame must become."""

    params: dict[str, np.ndarray]
    pixels: np.ndarray  # [V, 2] where the format's own camera puts the vertices
    image: np.ndarray  # [H, W, 3] as the format's picture decodes


# --- GAGAvatar_track ------------------------------------------------------------------------------------------


def track_frame(rng: np.random.Generator, shape: np.ndarray) -> tuple[dict, Truth, bytes]:
    """The tracker's record of one frame, what it must become, and its picture's JPEG bytes."""
    params = codes(rng, rotation=0, neck=0) | {"shape": shape}
    R = orthogonal(rng) @ np.diag([-1.0, 1.0, -1.0])  # row vectors; the camera's +x is left, +z forward
    T = np.array([0.1, -0.05, 9.0]) + 0.1 * rng.normal(size=3)
    matrix = np.concatenate([R, T[:, None]], 1).astype(np.float32)
    seen = 5.0 * vertices(params) @ matrix[:, :3] + matrix[:, 3]  # [V, 3]
    pixels = 256 - 256 * 12.0 * seen[:, :2] / seen[:, 2:]  # NDC goes left and up, +-1 at the picture's edges
    picture = jpeg(noise(rng, 512))
    record = {
        "bbox": np.array([0.25, 0.125, 0.75, 0.875], np.float32),
        "shapecode": shape,
        "expcode": params["expr"],
        "posecode": np.concatenate([np.zeros(3, np.float32), params["jaw"]]),
        "eyecode": params["eyes"],
        "transform_matrix": matrix,
    }
    return record, Truth(params, pixels, np.asarray(Image.open(io.BytesIO(picture)))), picture


def write_lmdb(folder: Path, records: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key.encode(), value)


def write_track(folder: Path, videos: dict[str, int], seed: int = 0, protocol: int = 4) -> dict[str, Truth]:
    """track_video.py's folder, and DIR/mattes beside it: video -> frames. Keys as the tracker sorts them, as text.

    Frames whose number is even have one shapecode, the others another, as the tracker's batches in text order do.
    """
    rng = np.random.default_rng(seed)
    optim, truths, images = {}, {}, {}
    for video, count in videos.items():
        shapes = rng.normal(size=(2, 300)).astype(np.float32)
        for i in range(count):
            key = f"{video}_{i}"
            optim[key], truths[key], images[key] = track_frame(rng, shapes[i % 2])
    write_lmdb(folder / "img_lmdb", images)
    with (folder / "optim.pkl").open("wb") as file:
        pickle.dump({key: optim[key] for key in sorted(optim)}, file, protocol)
    (folder / "mattes").mkdir()
    for key in truths:
        Image.fromarray(matte(512)).save(folder / "mattes" / f"{key}.png", compress_level=1)
    return truths


# --- INSTA ----------------------------------------------------------------------------------------------------

INSTA_SIZE = 64


def six(turn: np.ndarray) -> np.ndarray:
    """Axis-angle -> the first two rows of its matrix, PyTorch3D's 6D form."""
    return Rotation.from_rotvec(turn).as_matrix()[:2].reshape(6)


def write_insta(folder: Path, count: int, test: int, seed: int = 0) -> dict[int, Truth]:
    """An actor as metrical-tracker and INSTA's script leave it: frame number -> what it must become.

    The camera is the tracker's own PyTorch3D one; the OpenCV pose in the JSON is derived from it as that library does.
    """
    rng = np.random.default_rng(seed)
    shape, fl, pp = rng.normal(size=300).astype(np.float32), 4.5, np.array([0.05, -0.03])
    half = INSTA_SIZE / 2
    truths, entries = {}, []
    for i in range(count):
        params = codes(rng, rotation=0, neck=0) | {"shape": shape}
        R = orthogonal(rng) @ np.diag([-1.0, 1.0, -1.0])
        T = np.array([0.01, 0.02, 1.0]) + 0.02 * rng.normal(size=3)
        seen = vertices(params) @ R + T
        ndc = fl * seen[:, :2] / seen[:, 2:] + pp
        rgba = np.concatenate([noise(rng, INSTA_SIZE), matte(INSTA_SIZE)[..., None]], -1)
        truths[i] = Truth(params, half - half * ndc, rgba[..., :3])

        name = f"{i:05d}"
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = np.diag([-1, -1, 1]) @ R.T, np.array([-1, -1, 1]) * T
        text = {
            "exp": params["expr"],
            "shape": shape,
            "jaw": six(params["jaw"]),
            "eyes": np.concatenate([six(params["eyes"][:3]), six(params["eyes"][3:])]),
            "eyelids": np.array([0.25, 0.5]),
        }
        for kind, values in text.items():
            (folder / "flame" / kind).mkdir(parents=True, exist_ok=True)
            np.savetxt(folder / "flame" / kind / f"{name}.txt", values, fmt="%.8f")
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(rgba).save(folder / "images" / f"{name}.png")
        entries.append(
            {
                "transform_matrix": np.linalg.inv(w2c).tolist(),
                "file_path": f"images/{name}.png",
                "mesh_path": f"meshes/{name}.obj",
                "exp_path": f"flame/exp/{name}.txt",
                "depth_path": f"depth/{name}.png",
                "seg_mask_path": f"seg_mask/{name}.png",
            }
        )
    center = half - half * pp
    intrinsics = {"fl_x": fl * half, "fl_y": fl * half, "cx": center[0], "cy": center[1]}
    shared = intrinsics | {"w": float(INSTA_SIZE), "h": float(INSTA_SIZE), "integer_depth_scale": 0.001}
    parts = {"": entries, "_train": entries[:-test], "_test": entries[-test:], "_val": entries[-2:]}
    for suffix, part in parts.items():
        shuffled = [part[j] for j in rng.permutation(len(part))]  # as the script's workers finish
        (folder / f"transforms{suffix}.json").write_text(json.dumps(shared | {"frames": shuffled}))
    return truths


def write_frame(path: Path, actor: Path, number: int) -> None:
    """metrical-tracker's .frame with the same codes as an actor's text files."""
    names = ("exp", "shape", "jaw", "eyes", "eyelids")
    flame = {name: np.loadtxt(actor / "flame" / name / f"{number:05d}.txt", np.float32)[None] for name in names}
    path.parent.mkdir(exist_ok=True)
    torch.save(
        {"flame": flame, "img_size": np.array([INSTA_SIZE, INSTA_SIZE]), "frame_id": f"{number:05d}", "global_step": 7},
        path,
    )


# --- SplattingAvatar ------------------------------------------------------------------------------------------

SPLATTING_SIZE = 48


def write_splatting(folder: Path, count: int, seed: int = 0) -> list[Truth]:
    """A subject of SplattingAvatar's release; frames in the order of its JSON."""
    rng = np.random.default_rng(seed)
    K = np.array([-1500 / 512, 1480 / 512, 250 / 512, 262 / 512])  # fx negative, shares of the picture
    shape = np.zeros(300, np.float32)
    shape[:100] = rng.normal(size=100)
    truths, frames = [], []
    (folder / "image").mkdir(parents=True)
    for i in range(count):
        params = codes(rng) | {"shape": shape}
        params["expr"][50:] = 0
        world_mat = np.concatenate([orthogonal(rng, 0.02), [[0.02], [0.1], [-4.0]]], 1)
        seen = 4.0 * vertices(params) @ world_mat[:, :3].T + world_mat[:, 3]  # y up, looking along -z
        # IMavatar's projection, to [-1, 1] across the picture
        flat = seen[:, :2] / seen[:, 2:] * (2 * K[:2]) + (2 * K[2:] - 1)
        rgba = np.concatenate([noise(rng, SPLATTING_SIZE), matte(SPLATTING_SIZE)[..., None]], -1)
        Image.fromarray(rgba).save(folder / "image" / f"{i + 1}.png")
        truths.append(Truth(params, (flat + 1) / 2 * SPLATTING_SIZE, rgba[..., :3]))
        frames.append(
            {
                "file_path": f"./image/{i + 1}",
                "world_mat": world_mat.tolist(),
                "expression": params["expr"][:50].tolist(),
                "pose": np.concatenate([params[name] for name in ("rotation", "neck", "jaw", "eyes")]).tolist(),
                "bbox": [-0.5, -0.25, 0.5, 0.75],
                "flame_keypoints": flat[:68].tolist(),
            }
        )
    fields = {"frames": frames, "intrinsics": K.tolist(), "shape_params": shape[:100].tolist()}
    (folder / "flame_params.json").write_text(json.dumps(fields))
    return truths


# --- what a converted sequence must be ------------------------------------------------------------------------


def check_frame(sequence, i: int, truth: Truth, tolerance: float = 1e-6) -> None:
    """Codes, picture and, to 0.01 px, the vertices in the picture."""
    params = sequence.params(i)
    for name, code in truth.params.items():
        assert np.allclose(params[name][0].numpy(), code, atol=tolerance), name
    assert np.array_equal((sequence[i].image.permute(1, 2, 0) * 255).round().numpy(), truth.image)
    with torch.no_grad():
        pixels, depth = sequence.camera(i).project(head()(**params)[0])
    assert (depth > 0).all()
    assert np.abs(pixels.numpy() - truth.pixels).max() < 0.01
