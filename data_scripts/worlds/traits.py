"""What a generated person is like, in the few words that shape, skin and hair share."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

# Which procedures make a person: training worlds share one family, each shifted test world has its own.
Family = Literal["a", "b", "c"]


@dataclass(frozen=True)
class Traits:
    """One person. `african`, `asian` and `caucasian` are MakeHuman's names of its shape ancestries; they sum to 1."""

    gender: float  # 0 female to 1 male
    age: float  # years
    muscle: float  # 0 to 1
    weight: float  # 0 to 1
    height: float  # 0 to 1
    african: float
    asian: float
    caucasian: float


def sample_traits(rng: np.random.Generator) -> Traits:
    """Adults of every age and ancestry; build around the average."""
    share = rng.dirichlet(np.full(3, 0.45))
    return Traits(
        gender=float(rng.beta(0.35, 0.35)),
        age=float(18 + 62 * rng.beta(1.3, 1.7)),
        muscle=float(np.clip(rng.normal(0.5, 0.2), 0, 1)),
        weight=float(np.clip(rng.normal(0.5, 0.22), 0, 1)),
        height=float(np.clip(rng.normal(0.5, 0.06), 0, 1)),
        african=float(share[0]),
        asian=float(share[1]),
        caucasian=float(share[2]),
    )
