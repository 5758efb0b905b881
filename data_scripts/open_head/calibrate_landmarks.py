"""Find MediaPipe's 478 points and the 68 iBUG points on OpenHead, by looking: no point is placed by hand.

    python -m data_scripts.open_head.calibrate_landmarks --detector .venv-track/bin/python

Many people, expressions and views of the head are rendered; MediaPipe marks its points in every picture; each point
then goes to the place of the surface that comes closest to its marks in all pictures at once. Left and right are
solved together. The first round has no eyebrows; its brow points say where to paint them for the second.
Writes landmarks.json beside this file, and prints the residual on pictures that were not used.
"""

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from data_scripts.open_head.views import SIZE, Views, render
from data_scripts.track.landmarks import EYE_LEFT, EYE_RIGHT, IBUG, IRIS, LIPS_INNER, LIPS_OUTER, OVAL
from sa0lib.head import Head
from sa0lib.paths import ASSETS, ROOT

OUT = Path(__file__).with_name("landmarks.json")
ROUNDS = (150, 450)  # pictures of each round
HELD_OUT = 150
HUBER = 2.0  # mm: a mark further off than this pulls with constant force
SEEN = 0.25  # part of the pictures in which a place must be visible to be considered
REACH = 0.006  # metres around the best vertex that are searched finely ...
FINE = 8  # ... with this many steps along each edge
BROW_RIGHT_UPPER, BROW_RIGHT_LOWER = (70, 63, 105, 66, 107), (46, 53, 52, 65, 55)
BROW_LEFT_UPPER, BROW_LEFT_LOWER = (300, 293, 334, 296, 336), (276, 283, 282, 295, 285)
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 75, 305, 64, 294)
GROUPS = {
    "eyes": EYE_RIGHT + EYE_LEFT, "iris": IRIS, "lips, inner": LIPS_INNER, "lips, outer": LIPS_OUTER, "nose": NOSE,
    "brows": BROW_RIGHT_UPPER + BROW_RIGHT_LOWER + BROW_LEFT_UPPER + BROW_LEFT_LOWER, "contour": OVAL,
    "all 478": tuple(range(478)), "iBUG 68": tuple(IBUG),
}  # fmt: skip


def detect(images: UInt8[ndarray, "N H W 3"], python: str) -> tuple[ndarray, ndarray]:
    """MediaPipe's points in px [N, 478, 2] in the pictures and in their mirror images (mirrored back).

    Raises FileNotFoundError if there is no such python, RuntimeError if MediaPipe fails in it.
    """
    if not Path(python).is_file():
        raise FileNotFoundError(f"{python}: no python with MediaPipe; `make track` sets one up, or give --detector")
    with tempfile.TemporaryDirectory() as folder:
        pictures, points = Path(folder, "pictures.npz"), Path(folder, "points.npz")
        np.savez(pictures, images=images)
        script = Path(__file__).with_name("detect_landmarks.py")
        run = subprocess.run([python, script, pictures, points], capture_output=True, text=True)  # it is talkative
        if run.returncode:
            raise RuntimeError(f"{python} {script.name} failed:\n{run.stderr[-2000:]}")
        with np.load(points) as found:
            return found["straight"], found["mirrored"]


def mirror_of_points(straight: ndarray, mirrored: ndarray) -> Int[ndarray, " 478"]:
    """Which point is which one's mirror image: what the detector marks there when the picture is mirrored."""
    away = np.linalg.norm(straight[:, :, None] - mirrored[:, None], axis=-1)  # [N, 478, 478]
    _, mirror = linear_sum_assignment(np.nanmedian(away, axis=0))
    if not np.array_equal(mirror[mirror], np.arange(478)):
        raise ValueError("the detector's points do not pair up left and right: are the pictures good enough?")
    return mirror


def mirror_of_vertices(vertices: Float[ndarray, "V 3"]) -> Int[ndarray, " V"]:
    distance, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    if distance.max() > 1e-5 or not np.array_equal(mirror[mirror], np.arange(len(vertices))):
        raise ValueError(f"the template is not symmetric about x = 0: off by up to {distance.max():.2e} m")
    return mirror


class Solver:
    """Puts every point where the surface comes closest to its marks."""

    def __init__(self, head: Head):
        self.vertices = head.v_template.double().numpy()
        self.faces = head.faces.numpy()
        self.mirror = mirror_of_vertices(self.vertices)
        region = np.array(head.region_names)[head.region.numpy()][self.faces]  # [F, 3]
        skin = np.isin(region, ("face", "ears", "scalp", "neck")).all(1)
        self.allowed = {"skin": skin, "right": (region == "eye_right").all(1), "left": (region == "eye_left").all(1)}
        steps = np.array([(i, j, FINE - i - j) for i in range(FINE + 1) for j in range(FINE + 1 - i)]) / FINE
        self.grid = steps  # [S, 3] barycentric

    def cost(self, views: Views, marks: Float[ndarray, "N 2"], corners, bary) -> Float[ndarray, " C"]:
        """Mean robust distance in mm of each surface point to the marks, infinite for what is rarely seen."""
        xy, scale, facing = views.project(corners, bary)
        d = np.linalg.norm(xy - marks[:, None], axis=-1) / scale  # [N, C] mm
        d = np.where(d < HUBER, d**2 / (2 * HUBER), d - HUBER / 2)
        seen = facing & np.isfinite(d)
        mean = np.where(seen, d, 0).sum(0) / np.maximum(seen.sum(0), 1)
        return np.where(seen.mean(0) >= SEEN, mean, np.inf)

    def both(self, views, marks, i, m, corners, bary):
        """The cost of a place for point i plus that of its mirror image for point m."""
        return self.cost(views, marks[:, i], corners, bary) + self.cost(views, marks[:, m], self.mirror[corners], bary)

    def place(self, views: Views, marks: Float[ndarray, "N 478 2"], i: int, m: int):
        """Corners [3] and weights [3] of the best place for point i, whose mirror image is point m."""
        faces = self.faces[self.allowed["skin" if i < 468 else "right" if i < 473 else "left"]]
        near = np.unique(faces)
        corners, bary = np.repeat(near[:, None], 3, 1), np.tile([1.0, 0, 0], (len(near), 1))
        best = near[self.both(views, marks, i, m, corners, bary).argmin()]
        close = np.linalg.norm(self.vertices - self.vertices[best], axis=1) < REACH
        faces = faces[close[faces].any(1)]
        corners, bary = np.repeat(faces, len(self.grid), axis=0), np.tile(self.grid, (len(faces), 1))
        if i == m:  # a point of the middle stays there
            middle = np.abs((self.vertices[corners] * bary[..., None]).sum(1)[:, 0]) < 1e-6
            corners, bary = corners[middle], bary[middle]
        k = self.both(views, marks, i, m, corners, bary).argmin()
        return corners[k], bary[k]

    def on_face(self, corners: Int[ndarray, "3"], bary: Float[ndarray, "3"]) -> tuple[int, ndarray]:
        """The face that holds a place given by any three neighbouring vertices, and the weights in it."""
        point = bary @ self.vertices[corners]
        rows = np.nonzero(np.isin(self.faces, corners).sum(1) >= 2)[0]
        a, b, c = (self.vertices[self.faces[rows, k]] for k in range(3))
        e1, e2, d = b - a, c - a, point - a
        g11, g12, g22 = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
        r1, r2 = (e1 * d).sum(1), (e2 * d).sum(1)
        det = g11 * g22 - g12**2
        v, w = (g22 * r1 - g12 * r2) / det, (g11 * r2 - g12 * r1) / det
        inside = np.stack([1 - v - w, v, w], 1).clip(0, 1)
        inside /= inside.sum(1, keepdims=True)
        off = np.linalg.norm((inside[..., None] * self.vertices[self.faces[rows]]).sum(1) - point, axis=1)
        return int(rows[off.argmin()]), inside[off.argmin()]

    def solve(self, views: Views, marks, mirror) -> tuple[Int[ndarray, " 478"], Float[ndarray, "478 3"]]:
        face, bary = np.zeros(478, np.int64), np.zeros((478, 3))
        for i, m in enumerate(mirror):
            if i <= m:
                corners, weights = self.place(views, marks, i, m)
                face[i], bary[i] = self.on_face(corners, weights)
                if i != m:
                    face[m], bary[m] = self.on_face(self.mirror[corners], weights)
        return face, bary


def brow_weights(head: Head, face, bary) -> Float[ndarray, " V"]:
    """How much of an eyebrow each vertex is, 0 to 1: a band between the detector's upper and lower brow points."""
    vertices = head.v_template.double().numpy()
    at = (vertices[head.faces.numpy()[face]] * bary[..., None]).sum(1)  # [478, 3]
    weight = np.zeros(len(vertices))
    skin = head.region.numpy() == head.region_names.index("face")
    for upper, lower in ((BROW_RIGHT_UPPER, BROW_RIGHT_LOWER), (BROW_LEFT_UPPER, BROW_LEFT_LOWER)):
        upper, lower = at[list(upper)], at[list(lower)]
        k = np.linspace(0, 4, 41)
        line = np.stack([np.interp(k, range(5), (upper[:, d] + lower[:, d]) / 2) for d in range(3)], axis=1)
        half = np.interp(k, range(5), np.linalg.norm(upper - lower, axis=1) / 2)
        away, nearest = cKDTree(line).query(vertices)
        weight = np.maximum(weight, (1.5 - away / half[nearest]).clip(0, 1) * skin)
    return weight


def usable(views: Views, straight: ndarray, mirrored: ndarray, mirror: ndarray) -> ndarray:
    """Mean of both looks at each picture, [N, 478, 2] px; NaN where they disagree, so are not to be trusted."""
    mirrored = mirrored[:, mirror]
    size = views.focal / views.points[:, :, 2].mean(1) / 1000  # [N] px per mm
    apart = np.nanmedian(np.linalg.norm(straight - mirrored, axis=-1), axis=1) / size
    return np.where((apart < 3.0)[:, None, None], (straight + mirrored) / 2, np.nan)


def residuals(head: Head, views: Views, marks, face, bary) -> dict[str, list[float]]:
    """Per group of points: median and 90th percentile in px, median in mm, over what faces the camera."""
    xy, scale, facing = views.project(head.faces.numpy()[face], bary)
    d = np.linalg.norm(xy - marks, axis=-1)
    d[~facing] = np.nan
    table = {}
    for name, points in GROUPS.items():
        px, mm = d[:, list(points)], (d / scale)[:, list(points)]
        table[name] = [round(float(x), 2) for x in (*np.nanpercentile(px, [50, 90]), np.nanmedian(mm))]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", type=Path, default=ASSETS / "open_head.npz", help="npz of OpenHead")
    parser.add_argument("--detector", default=ROOT / ".venv-track" / "bin" / "python", help="python with mediapipe")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with np.load(args.head) as file:
        arrays = {key: file[key] for key in file if not key.startswith("lmk")}
    head = Head(arrays, "OpenHead")
    solver, brows = Solver(head), None
    for seed, n in enumerate(ROUNDS):
        views = render(head, n, seed, brows)
        straight, mirrored = detect(views.images, args.detector)
        if seed == 0:
            mirror = mirror_of_points(straight, mirrored)
        marks = usable(views, straight, mirrored, mirror)
        face, bary = solver.solve(views, marks, mirror)
        if brows is None:
            brows = brow_weights(head, face, bary)
        print(f"round {seed}: {np.isfinite(marks[:, 0, 0]).sum()} of {n} pictures used")

    views = render(head, HELD_OUT, len(ROUNDS), brows)
    marks = usable(views, *detect(views.images, args.detector), mirror)
    table = residuals(head, views, marks, face, bary)
    for name, (median, p90, mm) in table.items():
        print(f"{name:12s} median {median:5.2f} px, 90 % {p90:5.2f} px, median {mm:5.2f} mm")
    bary = np.round(bary, 5)
    record = {
        "what": "MediaPipe's 478 face points and the 68 iBUG points on OpenHead: face indices, barycentric weights",
        "provenance": {
            "command": "python -m data_scripts.open_head.calibrate_landmarks",
            "detector": "mediapipe 0.10.21 FaceMesh, refine_landmarks=True",
            "pictures": list(ROUNDS),
            "held_out": {"pictures": HELD_OUT, "size": SIZE, "median px, 90 % px, median mm": table},
        },
        "faces_sha256": hashlib.sha256(np.ascontiguousarray(arrays["f"], np.int32).tobytes()).hexdigest(),
        "lmk478_face": face.tolist(),
        "lmk478_bary": bary.tolist(),
        "lmk68_face": face[IBUG].tolist(),
        "lmk68_bary": bary[IBUG].tolist(),
    }
    temporary = args.out.with_suffix(".tmp")
    temporary.write_text(json.dumps(record) + "\n")
    os.replace(temporary, args.out)


if __name__ == "__main__":
    main()
