"""Who is trained on, who is tested on, and what drives whom: the evaluation protocols of Sec. 4.1 as index rules."""

import hashlib
from collections.abc import Iterable, Sequence

HELD_OUT = 350  # frames at the end of each SplattingAvatar video (Sec. 4.1)


def last_frames(n_frames: int, held_out: int = HELD_OUT) -> tuple[range, range]:
    """(train, test) frames of one video: the last `held_out` are the test set.

    Raises ValueError if nothing would be left to train on, or nothing is held out.
    """
    if not 0 < held_out < n_frames:
        raise ValueError(f"held_out must be 1 to {n_frames - 1} of {n_frames} frames, not {held_out}")
    return range(n_frames - held_out), range(n_frames - held_out, n_frames)


def self_reenactment(n_frames: int) -> tuple[int, range]:
    """(source, targets): the first frame is the source, the remaining ones drive it and are what it is compared with.

    Raises ValueError for a clip of fewer than two frames.
    """
    if n_frames < 2:
        raise ValueError(f"self-reenactment needs a source and a target: 2 frames, not {n_frames}")
    return 0, range(1, n_frames)


def cross_reenactment(identities: Sequence[str]) -> list[tuple[int, int]]:
    """(source clip, driving clip) for every clip: the next clip drives, the first drives the last.

    `identities[i]` is who clip i shows; clips are in the order of their names. The paper wants a different identity to
    drive: where the next clip shows the same person, the one after it is taken, and so on.

    Raises ValueError if all clips show one person.
    """
    n = len(identities)
    if len(set(identities)) < 2:
        raise ValueError(f"cross-reenactment needs clips of two people, these {n} are of {set(identities) or 'nobody'}")
    pairs = []
    for source in range(n):
        following = ((source + step) % n for step in range(1, n))
        pairs.append((source, next(i for i in following if identities[i] != identities[source])))
    return pairs


def held_out_identities(identities: Iterable[str], count: int, seed: int = 0) -> set[str]:
    """`count` people to test on; all their clips belong to the test slice, so no one is on both sides.

    Each person's place in the draw is a hash of name and seed: it depends neither on the order of the clips nor on
    how many each has, and a few people more or fewer (clips that have vanished from the web) move few others.

    Raises ValueError if the slice would be empty or leave nobody to train on.
    """
    people = set(identities)
    if not 0 < count < len(people):
        raise ValueError(f"count must be 1 to {len(people) - 1} of {len(people)} identities, not {count}")
    return set(sorted(people, key=lambda person: hashlib.sha256(f"{seed}\0{person}".encode()).digest())[:count])
