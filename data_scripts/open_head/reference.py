"""The mean head, and the frame that all heads are put into."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from data_scripts.open_head.basis import align, mirror_map
from data_scripts.open_head.joints import rotation_matrix
from data_scripts.open_head.makehuman import HEAD_PARTS, MESH_GROUPS, HeadMesh, bones_under, load_rig_weights


@dataclass
class Reference:
    """Sampled heads in the common frame: metres, origin amid skull and face, gaze along +z."""

    heads: Float[ndarray, "B K 3"]  # the sampled heads, aligned
    mean: Float[ndarray, "K 3"]  # metres
    core: Bool[ndarray, " K"]  # what is aligned
    turn: Float[ndarray, "3 3"]  # the pitch by which heads were turned, which their expressions need, too


def core_of(mesh: HeadMesh) -> Bool[ndarray, " K"]:
    """What heads are aligned by: the skin that moves with the skull, without the inside of the mouth."""
    names, parents, rig = load_rig_weights(mesh)
    core = np.zeros(len(mesh.rest), bool)
    skin = np.unique(mesh.faces[mesh.group == MESH_GROUPS.index("body")])
    core[skin] = rig[skin][:, bones_under(names, parents, "head")].sum(axis=1) > 0.99
    core[np.unique(mesh.faces[mesh.part == list(HEAD_PARTS).index("mouth_cavity")])] = False
    return core


def mean_head(mesh: HeadMesh, heads: Float[ndarray, "B K 3"]) -> Reference:
    """Align sampled heads and average them: origin amid skull and face, symmetric, gaze along +z."""
    core = core_of(mesh)
    mirror, head = mirror_map(mesh.rest), mesh.rest
    for _ in range(3):
        moved, turn = align(heads, head, core)
        mean = moved.mean(axis=0)
        head = _level(mesh, 0.5 * (mean + mean[mirror] * [-1, 1, 1]), core)
    moved, turn = align(heads, head, core)
    pitch = np.arctan2(turn[:, 2, 1].sum(), turn[:, 1, 1].sum())
    return Reference(moved, head, core, rotation_matrix(np.array([pitch, 0, 0])))


def _level(mesh, head, core):
    """Turn a symmetric head about x until the eyes look straight ahead, and centre it."""
    at = {name: head[rows].mean(axis=0) for name, rows in mesh.helpers.items()}
    gaze = at["joint-l-eye-target"] + at["joint-r-eye-target"] - at["joint-l-eye"] - at["joint-r-eye"]
    c, s = np.array([gaze[2], gaze[1]]) / np.hypot(gaze[1], gaze[2])
    head = head @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
    return head - head[core].mean(axis=0)
