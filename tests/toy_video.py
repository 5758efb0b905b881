"""A short video made by the tests, and the face that a detector would find in it."""

from pathlib import Path

import av
import numpy as np

from data_scripts.track.video import VideoInfo

WIDTH, HEIGHT, FRAMES = 320, 240, 30
INFO = VideoInfo(Path("clip.mp4"), WIDTH, HEIGHT, 25.0, FRAMES)


def write_video(path, frames=FRAMES, width=WIDTH, height=HEIGHT):
    """Frames with a bright square on a dark, uneven ground."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 60, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = ground.shape[1], ground.shape[0], "yuv420p"
        for _ in range(frames):
            picture = ground.copy()
            picture[60:80, 200:220] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def detections(x=160.0, y=110.0, size=90.0):
    """The same oval face in every frame, and no second face."""
    rng = np.random.default_rng(1)
    angle, radius = rng.uniform(0, 2 * np.pi, 478), np.sqrt(rng.uniform(0, 1, 478))
    face = np.stack([0.4 * radius * np.cos(angle), 0.5 * radius * np.sin(angle)], 1)
    face[10], face[152] = (0, -0.5), (0, 0.5)  # forehead and chin
    faces = np.full((FRAMES, 2, 478, 2), np.nan)
    faces[:, 0] = face * size + (x, y)
    return faces, np.full((FRAMES, 2, 21, 2), np.nan)


def hand(x, y, size=40.0):
    return np.random.default_rng(2).uniform(-0.5, 0.5, (21, 2)) * size + (x, y)
