"""Small trees of exactly the formats of NeRSemble, its benchmark, CelebV-HQ, VFHQ and HDTF, made by the tests."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from data_scripts.adapters.nersemble import SERIALS
from data_scripts.adapters.nersemble_benchmark import SERIAL
from data_scripts.track.rig import Fit, LandmarkRig

# --- pictures -----------------------------------------------------------------------------------------------------


def picture(k: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """A soft, coloured scene whose middle square has the grey level 8 + 6 k: the frame's number can be read from it."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    phase = 2 * np.pi * np.array([0.0, 0.3, 0.6]) + seed
    scene = 128 + 80 * np.sin(3 * x[..., None] + phase) * np.cos(2 * y[..., None] + phase)
    top, left = height * 3 // 8, width * 3 // 8
    scene[top : height * 5 // 8, left : width * 5 // 8] = 8 + 6 * k
    return scene.round().astype(np.uint8)


def number(image: torch.Tensor) -> int:
    """The number of the frame whose picture [3, H, W] this is."""
    height, width = image.shape[1:]
    middle = image[:, height * 7 // 16 : height * 9 // 16, width * 7 // 16 : width * 9 // 16]
    return round((float(middle.mean()) * 255 - 8) / 6)


def matte(width: int, height: int, k: int = 0) -> np.ndarray:
    """An ellipse in the middle, a pixel further right in each frame."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - width / 2 - k) / (0.3 * width)) ** 2 + ((y - height / 2) / (0.4 * height)) ** 2 < 1
    return np.where(inside, 255, 0).astype(np.uint8)


def write_video(path: Path, frames, fps=25, pix_fmt="yuv444p", crf=8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", Fraction(fps), options={"crf": str(crf), "preset": "ultrafast"})
        for k, frame in enumerate(frames):
            if k == 0:
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], pix_fmt
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def grey(mask: np.ndarray) -> np.ndarray:
    return mask[..., None].repeat(3, -1)


# --- cameras and codes --------------------------------------------------------------------------------------------


def turn(axis: int, angle: float) -> np.ndarray:
    """Rotation about one axis, by hand."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    R = np.eye(3)
    R[i, i], R[i, j], R[j, i], R[j, j] = c, -s, s, c
    return R


def euler_xyz(angles) -> np.ndarray:
    """Intrinsic XYZ: about x, then about the turned y, then about the twice turned z."""
    return turn(0, angles[0]) @ turn(1, angles[1]) @ turn(2, angles[2])


def rigid(R, t) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, t
    return matrix


def project(points: np.ndarray, w2c: np.ndarray, K: np.ndarray) -> np.ndarray:
    """World points [V, 3] to pixels [V, 2], OpenCV, float64."""
    seen = (points @ w2c[:3, :3].T + w2c[:3, 3]) @ K.T
    return seen[:, :2] / seen[:, 2:]


def codes(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Random codes of `count` frames, float32: Head.forward's keywords."""
    size = {"shape": 300, "expr": 100, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
    scale = {"shape": 0.3, "expr": 0.3, "translation": 0.02}
    table = {name: (scale.get(name, 0.2) * rng.normal(size=(count, n))).astype(np.float32) for name, n in size.items()}
    table["shape"][:] = table["shape"][0]
    return table


# --- NeRSemble v2 and VHAP ----------------------------------------------------------------------------------------

SEQUENCE, CAMERAS = "EXP-3-cheeks+nose", (15, 8, 11, 0)  # in another order than the serials'
WIDTH, HEIGHT, FRAMES, FPS, VHAP_FPS = 220, 320, 30, 73, 25
K_CALIBRATED = np.array([[7000.0, 0, 1080], [0, 7010.0, 1630], [0, 0, 1]])


def rig_poses() -> dict[str, np.ndarray]:
    """World to camera of the toy's cameras: a metre away, around an origin that is not the head's."""
    poses = {}
    for index in CAMERAS:
        R = np.diag([1.0, -1.0, -1.0]) @ turn(1, 0.1 * (index - 8)) @ turn(0, 0.05) @ turn(2, 0.4)
        poses[SERIALS[index]] = rigid(R, [0.01 * index, 0.02, 1.1])
    return poses


def colour_matrix(index: int) -> list[list[float]]:
    """A gain of its own for every camera, with a cross term: four columns for some, three for the others."""
    matrix = np.diag([0.6 + 0.01 * index, 0.8, 1.05]) + 0.02
    return (np.concatenate([matrix, [[0.01], [0.0], [0.02]]], 1) if index % 2 else matrix).tolist()


def extracted() -> list[int]:
    """Frames that FFmpeg's own `fps` filter takes from a video of the toy's length and rate."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=Fraction(1, FPS))
    sink = graph.add("buffersink")
    graph.link_nodes(source, graph.add("fps", str(VHAP_FPS)), sink).configure()
    numbers = []
    for k in range(FRAMES + 1):
        frame = None
        if k < FRAMES:
            frame = av.VideoFrame.from_ndarray(np.full((16, 16), k, np.uint8), format="gray")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
        source.push(frame)
        while True:
            try:
                numbers.append(int(sink.pull().to_ndarray()[0, 0]))
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    return numbers


def write_participant(root: Path, mattes: str = "pictures") -> Path:
    """`<pid>` of NeRSemble v2, with mattes as VHAP ("pictures") or as the benchmark ("videos") writes them."""
    folder = root / "018"
    (folder / "calibration").mkdir(parents=True)
    poses = rig_poses()
    params = {"world_2_cam": {s: p.tolist() for s, p in poses.items()}, "intrinsics": K_CALIBRATED.tolist()}
    (folder / "calibration" / "camera_params.json").write_text(json.dumps(params))
    colours = {SERIALS[index]: colour_matrix(index) for index in CAMERAS}
    (folder / "calibration" / "color_calibration.json").write_text(json.dumps(colours))
    sequence = folder / "sequences" / SEQUENCE
    (sequence / "alpha_maps").mkdir(parents=True)
    for index in CAMERAS:
        name = f"cam_{SERIALS[index]}"
        write_video(sequence / "images" / f"{name}.mp4", (picture(k, WIDTH, HEIGHT, index) for k in range(FRAMES)), FPS)
        if mattes == "videos":
            frames = (grey(matte(WIDTH, HEIGHT, k)) for k in range(FRAMES))
            write_video(sequence / "alpha_maps" / f"{name}.mp4", frames, FPS)
            continue
        for n, k in enumerate(extracted()):
            Image.fromarray(matte(WIDTH, HEIGHT, k)).save(sequence / "alpha_maps" / f"{name}_{n:06d}.png")
    return folder


def motion() -> np.ndarray:
    """From the calibration's world to VHAP's: aligned axes, origin in the head."""
    return rigid(turn(0, -0.3) @ turn(1, 0.2) @ turn(2, -0.35), [0.03, -0.04, 0.05])


def write_export(folder: Path, offset: float = 0.0) -> dict[str, np.ndarray]:
    """What VHAP's exporter leaves for the toy: two cameras only, every extracted frame. Returns the codes."""
    rng, count = np.random.default_rng(1), len(extracted())
    table = codes(rng, count)
    static = (offset * rng.normal(size=(1, 5143, 3))).astype(np.float32)
    (folder / "flame_param").mkdir(parents=True)
    frames = []
    for t in range(count):
        arrays = {key: table[key][t : t + 1] for key in ("expr", "rotation", "translation")}
        arrays |= {f"{name}_pose": table[name][t : t + 1] for name in ("neck", "jaw", "eyes")}
        np.savez(folder / "flame_param" / f"{t:05d}.npz", shape=table["shape"][t], static_offset=static, **arrays)
        for c, index in enumerate((8, 11)):
            c2w = motion() @ np.linalg.inv(rig_poses()[SERIALS[index]]) @ np.diag([1.0, -1, -1, 1])  # OpenGL
            frames.append(
                {
                    "timestep_index": t,
                    "timestep_index_original": t,
                    "timestep_id": f"{t:06d}",
                    "camera_index": c,
                    "camera_id": SERIALS[index],
                    "transform_matrix": c2w.tolist(),
                    "file_path": f"images/{t:05d}_{c:02d}.png",
                    "flame_param_path": f"flame_param/{t:05d}.npz",
                }
            )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return table


# --- the benchmark ------------------------------------------------------------------------------------------------

BENCHMARK_SIZE, SCALE = 256, 1.7
BENCHMARK_K = np.array([[1800.0, 0, 250], [0, 1790.0, 261], [0, 0, 1]])  # for 512 px
BENCHMARK_W2C = rigid(np.diag([1.0, -1, -1]) @ turn(1, 0.1), [0.05, -0.02, 1.9])
TRACKED = {"EMO-2-surprise+fear": [0, 1, 2, 5], "SEN-08-clothes_and_lodging": [1, 3]}  # sequence -> frames with codes


def write_benchmark(root: Path, version: str = "flame2023_tracking_v2.npz") -> tuple[Path, dict[str, dict]]:
    """`mono_flame_avatar/<pid>` and the tracking of every sequence; one of them, FREE, is held out: no pictures."""
    folder, tables = root / "461", {}
    (folder / "calibration").mkdir(parents=True)
    params = {"world_2_cam": {SERIAL: BENCHMARK_W2C.tolist()}, "intrinsics": {SERIAL: BENCHMARK_K.tolist()}}
    (folder / "calibration" / "camera_params.json").write_text(json.dumps(params))
    for s, (name, frames) in enumerate({**TRACKED, "FREE": [0, 1]}.items()):
        table = codes(np.random.default_rng(s), len(frames))
        tracking = {"shape": table["shape"][:1], "expression": table["expr"], "frames": np.array(frames)}
        tracking |= {key: table[key] for key in ("rotation", "translation", "neck", "jaw", "eyes")}
        tracking["rotation_matrices"] = np.stack([euler_xyz(angles) for angles in table["rotation"].astype(float)])
        tracking["scale"] = np.array([[SCALE]])
        sequence = folder / "sequences" / name
        (sequence / "tracking").mkdir(parents=True)
        np.savez(sequence / "tracking" / version, **tracking)
        tables[name] = tracking
        if name != "FREE":
            side, shown = BENCHMARK_SIZE, range(max(frames) + 2)
            write_video(sequence / "images" / f"cam_{SERIAL}.mp4", (picture(k, side, side, s) for k in shown))
            write_video(sequence / "alpha_maps" / f"cam_{SERIAL}.mp4", (grey(matte(side, side, k)) for k in shown))
    return folder, tables


# --- clips --------------------------------------------------------------------------------------------------------


def celebv_entry(video: str, start=1.0, end=2.2, top=0.1, bottom=0.9, left=0.2, right=0.7) -> dict:
    return {
        "ytb_id": video,
        "duration": {"start_sec": start, "end_sec": end},
        "bbox": {"top": top, "bottom": bottom, "left": left, "right": right},
        "attributes": {"appearance": [0, 1], "action": [1], "emotion": {"sep_flag": False, "labels": "neutral"}},
        "version": "v0.1",
    }


def write_celebv(root: Path, entries: dict[str, dict]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    meta = {"appearance_mapping": ["Blurry", "Male"], "action_mapping": ["blow"]}
    (root / "celebvhq_info.json").write_text(json.dumps({"meta_info": meta, "clips": entries}))
    return root


def write_vfhq(root: Path, clips: dict[str, int], size: int = 144) -> Path:
    for seed, (name, count) in enumerate(clips.items()):
        (root / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(picture(k, size, size, seed)).save(root / name / f"{k:08d}.png")
    return root


def write_hdtf(root: Path, lines: dict[str, dict[str, str]]) -> Path:
    """HDTF_dataset: set -> kind of list -> text."""
    folder = root / "HDTF_dataset"
    folder.mkdir(parents=True)
    for subset in ("RD", "WDA", "WRA"):
        for kind in ("video_url", "annotion_time", "crop_wh", "resolution"):
            (folder / f"{subset}_{kind}.txt").write_text(lines.get(subset, {}).get(kind, ""))
    return root


def performance(count: int, size: int) -> Fit:
    """A head that speaks before a camera of `size` px: what the stand-in detector sees."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.sin(torch.linspace(0, 6, count))[:, None]
    return Fit(
        shape=torch.cat([torch.randn(1, 20, generator=generator), torch.zeros(1, 280)], 1),
        expr=0.3 * wave * torch.randn(1, 100, generator=generator),
        rotation=0.1 * wave * torch.randn(1, 3, generator=generator),
        jaw=torch.cat([0.1 + 0.1 * wave, torch.zeros(count, 2)], 1),
        eyes=torch.zeros(count, 6),
        translation=torch.tensor([[0.0, 0.0, -0.6]]).repeat(count, 1),
        focal=1.4 * size,
    )


def detector(folder: Path, head, count: int, size: int) -> Path:
    """An interpreter's stand-in that answers as the tracker's detector would for the first `count` frames of it."""
    faces = np.full((count, 2, 478, 2), np.nan, np.float32)
    faces[:, 0] = performance(count, size).landmarks(LandmarkRig(head), size, size).numpy()
    arrays = {"faces": faces, "hands": np.full((count, 2, 21, 2), np.nan, np.float32)}
    arrays["matte"] = np.broadcast_to(matte(256, 256), (count, 256, 256))
    arrays["window"] = np.tile(np.array([0, 0, size], np.float32), (count, 1))
    np.savez(folder / "answer.npz", **arrays)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\ncat > /dev/null\ncp "{folder / "answer.npz"}" "$2"\n')
    python.chmod(0o755)
    return python
