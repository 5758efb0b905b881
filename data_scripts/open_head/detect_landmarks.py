"""MediaPipe's 478 face points on a stack of single pictures, each as it is and mirrored.

Runs in the tracker's own environment (`data_scripts/track/requirements.txt`), which needs an older numpy:

    .venv-track/bin/python data_scripts/open_head/detect_landmarks.py pictures.npz points.npz
"""

import sys

import mediapipe as mp
import numpy as np


def detect(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] to px [N, 478, 2]; NaN where no face is found."""
    points = np.full((len(images), 478, 2), np.nan, np.float32)
    with mp.solutions.face_mesh.FaceMesh(refine_landmarks=True) as network:
        for image, found in zip(images, points, strict=True):
            network.reset()
            for _ in range(2):  # the second look crops around the points of the first, as in a video
                faces = network.process(np.ascontiguousarray(image)).multi_face_landmarks
            if faces:
                found[:] = [(p.x * image.shape[1], p.y * image.shape[0]) for p in faces[0].landmark]
    return points


if __name__ == "__main__":
    images = np.load(sys.argv[1])["images"]
    mirrored = detect(images[:, :, ::-1])
    mirrored[..., 0] = images.shape[2] - mirrored[..., 0]
    np.savez(sys.argv[2], straight=detect(images), mirrored=mirrored)
