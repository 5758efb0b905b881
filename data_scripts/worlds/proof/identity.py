"""Do generated people look like different people, and each like themselves?

Pictures of one person also share what their sequence shares: light and background, where a world has one of them for
each person. dlib looks at little but the face, yet a world with the same light for everyone is the stricter test.
"""

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from data_scripts.worlds.proof.faces import OVERLAP, World, cases_of, iou, open_sequences, spread
from sa0lib.faces import SAME_PERSON, csim, detect, embed, identity_distance
from sa0lib.head import Head

MOST = 64  # frames of a sequence among which the visible ones are looked for


def auc(
    same: Float[np.ndarray, " S"],
    different: Float[np.ndarray, " D"],
    same_weight: Float[np.ndarray, " S"] | None = None,
    different_weight: Float[np.ndarray, " D"] | None = None,
) -> float:
    """The chance that a same-person distance is below a different-person one, ties counting half; NaN without pairs.

    This is the area under the ROC curve, U / (S D) of Mann and Whitney. Weights count a pair more than once.
    """
    same_weight = np.ones(len(same)) if same_weight is None else same_weight
    different_weight = np.ones(len(different)) if different_weight is None else different_weight
    order = np.argsort(same)
    mass = np.concatenate([[0.0], np.cumsum(same_weight[order])])  # of same pairs, from the closest on
    below, upto = (np.searchsorted(same[order], different, side=side) for side in ("left", "right"))
    wins = different_weight @ (mass[below] + mass[upto]) / 2
    total = mass[-1] * different_weight.sum()
    return float(wins / total) if total > 0 else float("nan")


def auc_interval(
    distance: Float[np.ndarray, " P"],
    pairs: Int[np.ndarray, "P 2"],
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % bootstrap interval of the AUC over people drawn with replacement.

    `pairs` are the two persons of each distance, by number. People are drawn, not pairs: those of one person are not
    independent. A person drawn twice brings their own pairs twice, and is never compared with themselves as another.
    """
    _, pairs = np.unique(pairs, return_inverse=True)  # without gaps: a person may have no face that was found
    pairs, people = pairs.reshape(-1, 2), pairs.max() + 1
    equal = pairs[:, 0] == pairs[:, 1]
    same, different, (left, right) = distance[equal], distance[~equal], pairs[~equal].T
    values = []
    for _ in range(draws):
        count = np.bincount(rng.integers(0, people, people), minlength=people)  # [people]
        values.append(auc(same, different, count[pairs[equal, 0]], count[left] * count[right]))
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


def embed_people(
    head: Head, world: World, people: int, pictures_each: int
) -> tuple[Float[np.ndarray, "N 128"], Int[np.ndarray, " N"], int]:
    """(Embeddings, number of the person of each, visible faces that dlib did not find).

    Up to `people` of the world and `pictures_each` visible pictures of each are taken, evenly spread.
    """
    vectors, persons, lost = [], [], 0
    for person, folders in enumerate(tqdm(spread(list(world.people.values()), people), "identity", unit="person")):
        sequences = [sequence for folder in folders for sequence in open_sequences(folder, head)]
        cases = [case for s in sequences for case in cases_of(head, s, spread(list(range(len(s))), MOST))]
        for case in spread([case for case in cases if case.visible], pictures_each):
            picture = case.picture()
            boxes = detect(picture)
            overlaps = iou(boxes, case.box)
            if not (overlaps >= OVERLAP).any():
                lost += 1
                continue
            vectors.append(embed(picture, boxes[overlaps.argmax()]))
            persons.append(person)
    return np.array(vectors, np.float32).reshape(-1, 128), np.array(persons, int), lost


def prove_identity(head: Head, world: World, people: int, pictures_each: int, draws: int, seed: int) -> dict:
    """How well dlib's distance tells people of one world apart; the AUC is None without both kinds of pairs."""
    vectors, persons, lost = embed_people(head, world, people, pictures_each)
    result = {"people": len(np.unique(persons)), "pictures": len(persons), "not_found": lost, "auc": None}
    first, second = np.triu_indices(len(vectors), 1)
    pairs = np.stack([persons[first], persons[second]], 1)  # [P, 2]
    equal = pairs[:, 0] == pairs[:, 1]
    if equal.all() or not equal.any():
        return result
    distance = identity_distance(vectors[first], vectors[second])  # [P]
    similarity = csim(vectors[first], vectors[second], vectors.mean(0))  # [P]
    result["auc"] = auc(distance[equal], distance[~equal])
    result["auc_interval"] = auc_interval(distance, pairs, draws, np.random.default_rng(seed))
    result["auc_csim"] = auc(-similarity[equal], -similarity[~equal])
    for name, flags in (("same", equal), ("different", ~equal)):
        result[name] = {
            "pairs": int(flags.sum()),
            "distance": [float(distance[flags].mean()), float(distance[flags].std())],
            "csim": [float(similarity[flags].mean()), float(similarity[flags].std())],
            "called_one_person": float((distance[flags] < SAME_PERSON).mean()),
        }
    return result
