"""Keep the inside of the mouth inside, and let the tongue lie low.

The base mesh's mouth cavity comes within a millimetre of the skin beside the nose and has shape changes of its own, so
on some heads it would poke through. Here its walls are set back a little, and where they lie close under the skin they
follow the skin's shape instead of their own. Its tongue is pressed to the palate, where it would fill an open mouth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from data_scripts.open_head.makehuman import HEAD_PARTS, MESH_GROUPS, HeadMesh

THICKNESS = 8e-3  # metres between cavity and skin on the mean head, where it was thinner
CLOSE = 14e-3  # metres: walls further from the skin keep their own shape
AVERAGE = 6e-3  # metres of skin whose shape change a wall vertex follows
RAMP = 12e-3  # metres from the lips' inner edge over which all this sets in
TIP_DROP, BACK_DROP = 3e-3, 11e-3  # metres by which the tongue is lowered at its tip and behind its middle
NARROW = 0.85  # of its width is left, so that it fits between the lower teeth


@dataclass
class MouthTuck:
    mean: Float[ndarray, "K 3"]
    wall: Int[ndarray, " n"]  # vertices that are changed
    follow: Float[ndarray, "n K"]  # their change as a weighted sum of everybody's difference from the mean
    inset: Float[ndarray, "n 3"]  # metres, on every head

    def __call__(self, heads: Float[ndarray, "B K 3"]) -> Float[ndarray, "B K 3"]:
        """The heads with the walls of the mouth cavity tucked in; affine."""
        tucked = heads.copy()
        change = np.einsum("nk,bkc->bnc", self.follow, heads - self.mean, optimize=True)
        tucked[:, self.wall] += change + self.inset
        return tucked


def fit_mouth_tuck(mesh: HeadMesh, head: Float[ndarray, "K 3"]) -> MouthTuck:
    """Plan the change on the mean head."""
    skin_faces = mesh.faces[mesh.group == MESH_GROUPS.index("body")]
    cavity = mesh.part[mesh.group == MESH_GROUPS.index("body")] == list(HEAD_PARTS).index("mouth_cavity")
    within, outside = np.unique(skin_faces[cavity]), np.unique(skin_faces[~cavity])
    rim, wall = np.intersect1d(within, outside), np.setdiff1d(within, outside)
    ramp = np.clip(_distance_along(head, skin_faces[cavity], rim)[wall] / RAMP, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)  # [n]
    # Not the lips: the cavity has to meet them.
    outer = outside[_distance_along(head, skin_faces, rim)[outside] > RAMP]
    gap = np.linalg.norm(head[wall, None] - head[None, outer], axis=2)  # [n, o]
    nearest = gap.min(axis=1)
    weight = np.exp((nearest[:, None] ** 2 - gap**2) / AVERAGE**2)
    weight /= weight.sum(axis=1, keepdims=True)
    close = np.clip(2 - nearest / (0.5 * CLOSE), 0, 1)  # 1 up to half of CLOSE, then falling to 0
    share = ramp * close
    follow = np.zeros((len(wall), len(head)))
    follow[:, outer] = share[:, None] * weight
    follow[np.arange(len(wall)), wall] -= share
    away = head[wall] - weight @ head[outer]
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    inset = (ramp * np.maximum(THICKNESS - nearest, 0))[:, None] * away
    return MouthTuck(head, wall, follow, inset)


def rest_tongue(tongue: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """The tongue, metres, laid down behind the lower teeth; +z is towards its tip."""
    behind = np.clip(2 * (tongue[:, 2].max() - tongue[:, 2]) / np.ptp(tongue[:, 2]), 0, 1)  # [n] 1 from the middle on
    behind = behind * behind * (3 - 2 * behind)
    return tongue * [NARROW, 1, 1] - (TIP_DROP + (BACK_DROP - TIP_DROP) * behind)[:, None] * [0, 1, 0]


def _distance_along(head: Float[ndarray, "K 3"], faces: Int[ndarray, "F 3"], start: Int[ndarray, " s"]) -> ndarray:
    """Shortest way along mesh edges from any vertex of `start`, metres; infinite where no edge leads."""
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    length = np.linalg.norm(head[edges[:, 0]] - head[edges[:, 1]], axis=1)
    graph = coo_matrix((length, edges.T), shape=(len(head), len(head)))
    return dijkstra(graph, directed=False, indices=start, min_only=True)
