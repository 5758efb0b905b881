"""MediaPipe's 478 face points in single pictures of any sizes, the first face of each.

Runs in the tracker's own environment (`data_scripts/track/requirements.txt`), which needs an older numpy:

    .venv-track/bin/python data_scripts/worlds/proof/detect.py pictures.json points.npy

`pictures.json` is a list of files; `points.npy` becomes float32 [N, 478, 2] in px, NaN where no face is found.
"""

import json
import sys

import mediapipe as mp
import numpy as np
from cv2 import COLOR_BGR2RGB, IMREAD_COLOR, cvtColor, imread


def detect(files: list[str]) -> np.ndarray:
    """Points of every picture, each as if it were a short video: the second look crops around what the first saw."""
    points = np.full((len(files), 478, 2), np.nan, np.float32)
    with mp.solutions.face_mesh.FaceMesh(refine_landmarks=True) as network:
        for file, found in zip(files, points, strict=True):
            picture = imread(file, IMREAD_COLOR)
            if picture is None:
                sys.exit(f"{file} cannot be read")
            picture = cvtColor(picture, COLOR_BGR2RGB)
            network.reset()
            for _ in range(2):
                faces = network.process(picture).multi_face_landmarks
            if faces:
                found[:] = [(p.x * picture.shape[1], p.y * picture.shape[0]) for p in faces[0].landmark]
    return points


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf8") as f:
        np.save(sys.argv[2], detect(json.load(f)))
