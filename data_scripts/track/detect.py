"""Per-frame detection with MediaPipe's bundled models: faces (478 points), hands, and a matte of the person.

Runs in the tracker's own environment (`requirements.txt` beside this file) as a child of the tracker, because
MediaPipe needs an older numpy than the library: raw RGB frames come in through stdin, one npz goes out.
"""

import argparse
import sys

import mediapipe as mp
import numpy as np
from cv2 import INTER_AREA, INTER_LINEAR, resize

MAX_FACES, MAX_HANDS = 2, 2
MATTE = 256  # px: the segmentation network's own input
HEAD_OF_FACE, SIDE_OF_HEAD = 1.3, 1.65  # head height over face height; segmentation window over head height


def window(face: np.ndarray, width: int, height: int) -> tuple[float, float, float]:
    """Square around a face, clamped into the picture: (x0, y0, side) in px."""
    x0, y0, x1, y1 = *face.min(0), *face.max(0)
    side = min(SIDE_OF_HEAD * HEAD_OF_FACE * max(x1 - x0, y1 - y0), width, height)
    return (
        float(np.clip((x0 + x1 - side) / 2, 0, width - side)),
        float(np.clip((y0 + y1 - side) / 2, 0, height - side)),
        float(side),
    )


def segment(network, picture: np.ndarray) -> np.ndarray:
    """Matte of a square picture, mean over it and its mirror image, uint8 [MATTE, MATTE]."""
    small = resize(picture, (MATTE, MATTE), interpolation=INTER_AREA if len(picture) > MATTE else INTER_LINEAR)
    straight = network.process(small).segmentation_mask
    mirrored = network.process(np.ascontiguousarray(small[:, ::-1])).segmentation_mask[:, ::-1]
    return np.clip((straight + mirrored) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def detect(stream, width: int, height: int) -> dict[str, np.ndarray]:
    """Read frames until the stream ends; absent faces and hands are NaN, the larger face comes first."""
    solutions, scale = mp.solutions, np.array([width, height])
    faces, hands, mattes, windows = [], [], [], []
    with (
        solutions.face_mesh.FaceMesh(max_num_faces=MAX_FACES, refine_landmarks=True) as face_net,
        solutions.hands.Hands(max_num_hands=MAX_HANDS, min_detection_confidence=0.4) as hand_net,
        solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as matte_net,
    ):
        while len(data := stream.read(width * height * 3)) == width * height * 3:
            picture = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            found = [
                np.array([(p.x, p.y) for p in face.landmark]) * scale
                for face in face_net.process(picture).multi_face_landmarks or []
            ]
            found.sort(key=lambda face: -np.prod(np.ptp(face, axis=0)))
            faces.append(np.full((MAX_FACES, 478, 2), np.nan, np.float32))
            faces[-1][: len(found)] = np.reshape(found, (-1, 478, 2))
            hands.append(np.full((MAX_HANDS, 21, 2), np.nan, np.float32))
            for slot, hand in enumerate(hand_net.process(picture).multi_hand_landmarks or []):
                hands[-1][slot] = np.array([(p.x, p.y) for p in hand.landmark]) * scale
            if found:
                windows.append(window(found[0], width, height))
                x0, y0, side = (int(v) for v in windows[-1])
                windows[-1] = (x0, y0, side)
                mattes.append(segment(matte_net, np.ascontiguousarray(picture[y0 : y0 + side, x0 : x0 + side])))
            else:
                windows.append((0, 0, 1))
                mattes.append(np.zeros((MATTE, MATTE), np.uint8))
    return {
        "faces": np.array(faces, np.float32).reshape(-1, MAX_FACES, 478, 2),  # px
        "hands": np.array(hands, np.float32).reshape(-1, MAX_HANDS, 21, 2),  # px
        "matte": np.array(mattes, np.uint8).reshape(-1, MATTE, MATTE),
        "window": np.array(windows, np.float32).reshape(-1, 3),  # where the matte lies: x0, y0, side in px
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="npz to write")
    parser.add_argument("--width", type=int, required=True, help="px, of the frames on stdin")
    parser.add_argument("--height", type=int, required=True, help="px, of the frames on stdin")
    args = parser.parse_args()
    np.savez(args.out, **detect(sys.stdin.buffer, args.width, args.height))
