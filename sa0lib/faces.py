"""Finding faces and telling people apart, with dlib's networks: what CSIM needs.

The field measures identity with ArcFace, whose weights are licensed for research and in no package. dlib's embedding
(a ResNet of 29 convolutions trained on about three million faces, public domain) takes its place: also one vector a
face, close for one person and far for two. It is the older and weaker of the two, so a CSIM of this file compares
with another of this file, never with one in a paper.
"""

from functools import lru_cache
from pathlib import Path

import dlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sa0lib.paths import ASSETS

SAME_PERSON = 0.6  # distance below which dlib's authors call two faces one person
FRONTAL_SIDE = 512  # px: pictures are enlarged to this for the frontal detector, whose smallest face is 80
ANY_SIDE = 256  # px: and brought to this for the slower network that also knows faces from the side


@lru_cache(maxsize=8)
def _network(kind: str, assets: Path):
    path = assets / f"dlib_face_{kind}.dat"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `python -m data_scripts.get_assets --only faces`")
    loader = {
        "detector": dlib.cnn_face_detection_model_v1,
        "points": dlib.shape_predictor,
        "embedding": dlib.face_recognition_model_v1,
    }[kind]
    try:
        return loader(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and run get_assets again") from error


@lru_cache(maxsize=1)
def _frontal():
    return dlib.get_frontal_face_detector()  # part of the package, no file


def _checked(image: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return np.ascontiguousarray(image)


def _resized(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The picture with its longer side brought to `side` px, and the factor."""
    factor = side / max(image.shape[:2])
    size = [max(round(n * factor), 1) for n in image.shape[1::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)), factor


def _boxes(rectangles, factor: float) -> Float[np.ndarray, "N 4"]:
    edges = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in rectangles]  # dlib's ends are inside
    return np.array(edges, np.float32).reshape(-1, 4) / factor


def detect_frontal(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "N 4"]:
    """Boxes `x0 y0 x1 y1` in px of the faces turned towards the camera, the surest first; dlib's HOG detector.

    Boxes reach about from the brows to the chin. Milliseconds a picture. ValueError if it is not uint8 [H, W, 3].
    """
    image = _checked(image)
    image, factor = (image, 1.0) if max(image.shape[:2]) >= FRONTAL_SIDE else _resized(image, FRONTAL_SIDE)
    rectangles, scores, _ = _frontal().run(image, 0, 0.0)
    return _boxes([rectangles[i] for i in np.argsort(scores)[::-1]], factor)


def detect(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "N 4"]:
    """Boxes `x0 y0 x1 y1` in px of the faces in a picture, the surest first; empty where there is none.

    `detect_frontal`, and where it finds nothing dlib's network for faces from every side (a quarter of a second).

    Raises:
        ValueError: the picture is not uint8 [H, W, 3].
        FileNotFoundError: dlib's files were not obtained (the message has the command).
    """
    image = _checked(image)
    boxes = detect_frontal(image)
    if len(boxes):
        return boxes
    image, factor = _resized(image, ANY_SIDE)
    found = sorted(_network("detector", ASSETS)(image, 0), key=lambda face: -face.confidence)
    return _boxes([face.rect for face in found], factor)


def embed(image: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "128"]:
    """dlib's identity embedding of the face in a box such as `detect` gives; the stand-in for ArcFace's 512 numbers.

    Five points (eye corners and the base of the nose) turn and scale the face to a picture of 150 px first, so the box
    need only be roughly right.

    Raises:
        ValueError: the picture is not uint8 [H, W, 3], or the box is not four finite numbers around an area.
        FileNotFoundError: dlib's files were not obtained (the message has the command).
    """
    image, box = _checked(image), np.asarray(box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] - box[:2] < 1).any():
        raise ValueError(f"a face box is x0 y0 x1 y1 in px with at least a pixel inside, not {box.tolist()}")
    x0, y0, x1, y1 = (int(v) for v in np.rint(box))
    points = _network("points", ASSETS)(image, dlib.rectangle(x0, y0, x1 - 1, y1 - 1))
    vector = _network("embedding", ASSETS).compute_face_descriptor(image, points)
    return np.array(vector, np.float32)


def identity_distance(a: Float[np.ndarray, "... 128"], b: Float[np.ndarray, "... 128"]) -> Float[np.ndarray, "..."]:
    """Euclidean distance of embeddings, the measure dlib's were trained for: under `SAME_PERSON` for one person."""
    return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=-1)


def csim(
    a: Float[np.ndarray, "... 128"], b: Float[np.ndarray, "... 128"], center: Float[np.ndarray, "128"]
) -> Float[np.ndarray, "..."]:
    """Cosine of embeddings about `center`, the mean over many people: 1 for equal faces, near 0 for two people.

    ArcFace's embeddings lie all around the origin, so the field's CSIM is their plain cosine. dlib's lie together far
    from it, and their plain cosine is close to 1 for any two faces: the mean must go first. Use one `center` for all
    numbers that are to be compared.
    """
    a, b = np.asarray(a) - center, np.asarray(b) - center
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(lengths, 1e-12)
