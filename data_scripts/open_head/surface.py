"""The model's own surface: the base mesh's skin and tongue, round eyeballs, and teeth."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from data_scripts.open_head.eyes import follow_eyeball, unit_eyeball
from data_scripts.open_head.makehuman import MESH_GROUPS, HeadMesh
from data_scripts.open_head.mouth import rest_tongue
from data_scripts.open_head.teeth import follow_guide, tooth_row


@dataclass
class Surface:
    """Vertices and triangles of the model on one head, and how they follow the base mesh's vertices."""

    guide: Float[ndarray, "K 3"]  # the base mesh on that head
    kept: Int[ndarray, " S"]  # base-mesh rows that are model vertices themselves: skin, then tongue
    guides: dict[str, Int[ndarray, " n"]]  # part -> base-mesh rows that its vertices follow
    vertices: Float[ndarray, "V 3"]
    faces: Int[ndarray, "F 3"]
    parts: dict[str, slice]  # skin, tongue, eye_left, eye_right, teeth_upper, teeth_lower -> vertex rows

    def lift(self, moved: Float[ndarray, "... K 3"]) -> Float[ndarray, "... V 3"]:
        """Displacement of the model's vertices for a displacement of the base mesh's; linear."""
        pieces = [moved[..., self.kept, :]]
        for part, rows in self.guides.items():
            follow = follow_eyeball if part.startswith("eye") else follow_guide
            pieces.append(follow(self.vertices[self.parts[part]], self.guide[rows], moved[..., rows, :]))
        return np.concatenate(pieces, axis=-2)


def build_surface(mesh: HeadMesh, head: Float[ndarray, "K 3"]) -> Surface:
    """Put eyeballs and teeth into a head.

    Vertices: skin, tongue (as in the base mesh), eye_left, eye_right, teeth_upper, teeth_lower.
    Faces: skin, eye_left, eye_right, tongue, teeth_upper, teeth_lower.
    """
    used = {name: np.unique(mesh.faces[mesh.group == i]) for i, name in enumerate(MESH_GROUPS)}
    kept = np.concatenate([used["body"], used["helper-tongue"]])
    guides = {"eye_left": used["helper-l-eye"], "eye_right": used["helper-r-eye"],
              "teeth_upper": mesh.helpers["helper-upper-teeth"],
              "teeth_lower": mesh.helpers["helper-lower-teeth"]}  # fmt: skip
    ball, ball_faces = unit_eyeball()
    pieces, faces = [head[used["body"]], rest_tongue(head[used["helper-tongue"]])], {}
    new_number = np.full(mesh.n_head, -1)
    new_number[kept] = np.arange(len(kept))
    for group, part in (("body", "skin"), ("helper-tongue", "tongue")):
        faces[part] = new_number[mesh.faces[mesh.group == MESH_GROUPS.index(group)]]
    n_skin, start = len(used["body"]), len(kept)
    parts = {"skin": slice(0, n_skin), "tongue": slice(n_skin, start)}
    for part, rows in guides.items():
        if part.startswith("eye"):
            centre = head[rows].mean(axis=0)
            radius = np.linalg.norm(head[rows] - centre, axis=1).mean()
            # The right ball is the left one's mirror image, so its triangles turn round.
            side = 1.0 if part == "eye_left" else -1.0
            vertices, triangles = ball * [side, 1, 1] * radius + centre, ball_faces[:, :: int(side)]
        else:
            vertices, triangles = tooth_row(head[rows], upper=part == "teeth_upper")
        pieces.append(vertices)
        faces[part] = triangles + start
        parts[part] = slice(start, start + len(vertices))
        start += len(vertices)
    order = ("skin", "eye_left", "eye_right", "tongue", "teeth_upper", "teeth_lower")
    return Surface(head, kept, guides, np.concatenate(pieces), np.concatenate([faces[p] for p in order]), parts)
