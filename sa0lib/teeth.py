"""Teeth for FLAME, which has none: two curved rows behind the lips, built here from the model's own lip line.

The counts, the order of the rows and the skinning are those that avatars in the field are stored with (120 vertices,
168 faces, upper teeth with the neck, lower teeth with the jaw), so that face indices of such files keep their
meaning. The shape of the arch is this project's own.
"""

import numpy as np
from jaxtyping import Float, Int

NECK, JAW = 1, 2  # joints
# FLAME's outer lip line: 15 vertices from one corner of the mouth to the other.
UPPER_LIP = (1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830)
LOWER_LIP = (1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712)
COLUMNS = len(UPPER_LIP)
ROWS = ("upper root", "lower root", "upper edge", "lower edge",
        "upper root back", "upper edge back", "lower root back", "lower edge back")  # fmt: skip

# All lengths in units of d, the mean distance between the upper and the lower lip line: it scales with the mouth.
SETBACK = 1.5  # from the lip line to the front of the teeth, so that closed lips cover them
OVERJET = 0.3  # the lower row stands this far behind the upper one and passes it when the jaw moves
GAP = 0.1  # from the middle of the mouth to each biting edge
CROWN = 1.6  # from the biting edge to the root
THICKNESS = 0.8  # front to back


def _arch(lip_line: Float[np.ndarray, "15 3"]) -> tuple[Float[np.ndarray, "15 3"], Float[np.ndarray, "15 3"]]:
    """A dental arch, level and symmetric, under the middle line of the lips; and its inward unit normals.

    The arch is the parabola z = apex - bow x^2 that fits the lip line, its 15 columns evenly spaced along the curve
    from corner to corner: lip vertices crowd towards the corners, teeth do not.
    """
    x0, y0, _ = lip_line.mean(0)
    half = 0.5 * (lip_line[:, 0].max() - lip_line[:, 0].min())
    x = lip_line[:, 0] - x0
    slope, apex = np.polyfit(x * x, lip_line[:, 2], 1)
    fine = np.linspace(-half, half, 1001)
    steps = np.hypot(np.diff(fine), np.diff(slope * fine * fine))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    x = np.interp(np.linspace(0.0, length[-1], COLUMNS), length, fine)
    x *= np.sign(lip_line[-1, 0] - lip_line[0, 0])  # columns run as the lip line does
    curve = np.stack([x0 + x, np.full(COLUMNS, y0), apex + slope * x * x], 1)
    inward = np.stack([2.0 * slope * x, np.zeros(COLUMNS), -np.ones(COLUMNS)], 1)
    return curve, inward / np.linalg.norm(inward, axis=1, keepdims=True)


def teeth_vertices(v_template: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "120 3"]:
    """The eight rows of `ROWS`, one after the other, in the template's metres."""
    upper, lower = v_template[list(UPPER_LIP)], v_template[list(LOWER_LIP)]
    d = np.linalg.norm(upper - lower, axis=1).mean()
    arch, inward = _arch(0.5 * (upper + lower))
    up, back = np.array([0.0, d, 0.0]), np.array([0.0, 0.0, -d])
    upper_edge = arch + SETBACK * back + GAP * up
    lower_edge = arch + (SETBACK + OVERJET) * back - GAP * up
    front = [upper_edge + CROWN * up, lower_edge - CROWN * up, upper_edge, lower_edge]
    behind = [row + THICKNESS * d * inward for row in front]
    return np.concatenate([*front, behind[0], behind[2], behind[1], behind[3]])


def _strip(first: str, second: str) -> Int[np.ndarray, "28 3"]:
    """Triangles between two rows: they face whoever sees `first` above `second` and the columns from left to right."""
    a = ROWS.index(first) * COLUMNS + np.arange(COLUMNS - 1)
    b = ROWS.index(second) * COLUMNS + np.arange(COLUMNS - 1)
    return np.concatenate([np.stack([a, b, b + 1], 1), np.stack([a, b + 1, a + 1], 1)])


def teeth_faces(v_template: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, "168 3"]:
    """Front, back and biting edge of both rows, normals outwards; numbered from 0."""
    faces = np.concatenate(
        [
            _strip("upper root", "upper edge"),
            _strip("upper edge back", "upper root back"),
            _strip("upper edge", "upper edge back"),
            _strip("lower edge", "lower root"),
            _strip("lower root back", "lower edge back"),
            _strip("lower edge back", "lower edge"),
        ]
    )
    left_to_right = v_template[UPPER_LIP[-1], 0] > v_template[UPPER_LIP[0], 0]  # for who looks at the face: along +x
    return faces if left_to_right else faces[:, ::-1]


def add_teeth(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """FLAME's arrays (as `read_flame` returns them) with teeth: 5023 -> 5143 vertices, 9976 -> 10144 faces.

    Identity moves a tooth as the mean of its lip pair; expressions and pose correctives do not move teeth, and
    joints do not depend on them. Upper rows are skinned to the neck, lower rows to the jaw.
    """
    n = 8 * COLUMNS
    vertices = len(model["v_template"])
    lips = 0.5 * (model["shapedirs"][list(UPPER_LIP)] + model["shapedirs"][list(LOWER_LIP)])  # [15, 3, 400]
    lips[:, :, 300:] = 0.0
    weights = np.zeros((n, model["weights"].shape[1]))
    for row, name in enumerate(ROWS):
        weights[row * COLUMNS : (row + 1) * COLUMNS, NECK if name.startswith("upper") else JAW] = 1.0
    joints = model["J_regressor"]
    return model | {
        "v_template": np.concatenate([model["v_template"], teeth_vertices(model["v_template"])]),
        "f": np.concatenate([model["f"], teeth_faces(model["v_template"]) + vertices]),
        "shapedirs": np.concatenate([model["shapedirs"], np.tile(lips, (8, 1, 1))]),
        "posedirs": np.concatenate([model["posedirs"], np.zeros((n, *model["posedirs"].shape[1:]))]),
        "J_regressor": np.concatenate([joints, np.zeros((joints.shape[0], n))], 1),
        "weights": np.concatenate([model["weights"], weights]),
    }
