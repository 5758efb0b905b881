"""A head model in FLAME's format: blendshapes and linear blend skinning (LBS), whatever file it came from.

One class, two sources: OpenHead, which this project builds, and the reader's own FLAME files, to which teeth are
added. Axes: +x to the subject's left, +y up, +z out of the face; metres and radians.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sa0lib.flame_files import read_flame, read_landmarks, read_template_uv
from sa0lib.paths import ASSETS
from sa0lib.rotation import axis_angle_to_matrix
from sa0lib.teeth import add_teeth

N_SHAPE, N_EXPR = 300, 100
WIDTHS = {"shape": N_SHAPE, "expr": N_EXPR, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
FLAME_FILES = {  # official file name -> source
    "generic_model.pkl": "FLAME 2020",
    "flame2023.pkl": "FLAME 2023",
    "flame2023_Open.pkl": "FLAME 2023 Open",
}

# Arrays of a model: kind of number (float, int, string) and shape; a letter is a size that must agree everywhere.
MODEL = {
    "v_template": ("f", ("V", 3)),
    "f": ("i", ("F", 3)),
    "shapedirs": ("f", ("V", 3, N_SHAPE + N_EXPR)),
    "posedirs": ("f", ("V", 3, 36)),
    "J_regressor": ("f", (5, "V")),
    "kintree_table": ("i", (2, 5)),
    "weights": ("f", ("V", 5)),
    "vt": ("f", ("T", 2)),
    "ft": ("i", ("U", 3)),
}
LANDMARKS_68 = {"lmk68_face": ("i", (68,)), "lmk68_bary": ("f", (68, 3))}
OPEN_HEAD = {
    **MODEL,
    **LANDMARKS_68,
    "lmk478_face": ("i", (478,)),
    "lmk478_bary": ("f", (478, 3)),
    "arkit_names": ("U", (52,)),
    "arkit_to_expr": ("f", (52, N_EXPR)),
    "arkit_to_jaw": ("f", (52, 3)),
    "arkit_to_eyes": ("f", (52, 6)),
    "region": ("i", ("V",)),
    "region_names": ("U", ("R",)),
    "vertex_color": ("f", ("V", 3)),
    "meta": ("U", ()),
}
INDICES = {"f": "V", "ft": "T", "lmk68_face": "F", "lmk478_face": "F", "region": "R"}  # array -> what it numbers


class Head(nn.Module):
    """A FLAME-format head; all of its arrays are buffers, so `.to()` and `.double()` work.

    Buffers: v_template [V, 3] m, shapedirs [V, 3, 400], posedirs [V, 3, 36], J_regressor [5, V], weights [V, 5],
    faces [F, 3], vt [T, 2] and ft [U, 3] (the UV chart; row i of ft is face i; faces from U on, FLAME's teeth, have
    no UV), lmk68_face/_bary, lmk478_face/_bary, and for OpenHead arkit_to_expr/_jaw/_eyes, region [V] (a number into
    `region_names`), vertex_color [V, 3]. Attributes: `source` ("OpenHead", "FLAME 2020", "FLAME 2023",
    "FLAME 2023 Open"), `basis` (source and fingerprint), `arkit_names`, `region_names`, `meta`.
    """

    n_shape, n_expr = N_SHAPE, N_EXPR

    def __init__(self, arrays: Mapping[str, np.ndarray], source: str):
        super().__init__()
        self.source = source
        self.parents = [int(p) for p in arrays["kintree_table"][0]]  # joints: root, neck, jaw, left eye, right eye
        self.arkit_names = [str(name) for name in arrays.get("arkit_names", ())]
        self.region_names = [str(name) for name in arrays.get("region_names", ())]
        self.meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
        for key, value in arrays.items():
            if key == "kintree_table" or value.dtype.kind == "U":
                continue
            dtype = torch.float32 if value.dtype.kind == "f" else torch.int64
            self.register_buffer("faces" if key == "f" else key, torch.from_numpy(np.array(value)).to(dtype))
        # OpenHead carries an id of its basis, the same wherever it was built; of a FLAME file, only the release counts
        self.basis = f"{source} {self.meta['basis']}" if "basis" in self.meta else source

    def forward(
        self,
        shape: Float[Tensor, "B 300"] | None = None,
        expr: Float[Tensor, "B 100"] | None = None,
        rotation: Float[Tensor, "B 3"] | None = None,
        neck: Float[Tensor, "B 3"] | None = None,
        jaw: Float[Tensor, "B 3"] | None = None,
        eyes: Float[Tensor, "B 6"] | None = None,
        translation: Float[Tensor, "B 3"] | None = None,
    ) -> Float[Tensor, "B V 3"]:
        """Vertices in metres, as FLAME (SMPL) defines them; None is zero, a batch of 1 counts for all.

        Identity and expression displace the template; joints are regressed from that; pose correctives are added;
        the vertices follow their joints. Poses are axis-angle; `rotation` turns the head about its root joint,
        `translation` comes last; `eyes` is left then right.

        Raises ValueError for codes of another width or batches that do not fit together.
        """
        codes = {"shape": shape, "expr": expr, "rotation": rotation, "neck": neck, "jaw": jaw, "eyes": eyes}
        batch = self._batch(codes | {"translation": translation})
        directions = self.shapedirs.flatten(0, 1)  # [3 V, 400]
        shaped = self.v_template.flatten()[None]  # [1, 3 V]
        if shape is not None:  # of one person, so usually one row, computed once for the whole batch
            shaped = shaped + shape @ directions[:, :N_SHAPE].T
        if expr is not None:
            shaped = shaped + expr @ directions[:, N_SHAPE:].T
        shaped = shaped.unflatten(1, (-1, 3))  # [1 or B, V, 3]
        joints = self.J_regressor @ shaped  # [1 or B, 5, 3]

        zero = self.v_template.new_zeros(1, 6)
        poses = [zero[:, : WIDTHS[name]] if codes[name] is None else codes[name] for name in list(codes)[2:]]
        pose = torch.cat([p.expand(batch, -1) for p in poses], 1).unflatten(1, (5, 3))  # [B, 5, 3]
        turn = axis_angle_to_matrix(pose)  # [B, 5, 3, 3]
        feature = (turn[:, 1:] - torch.eye(3).to(turn)).flatten(1)  # [B, 36]
        posed = shaped + (feature @ self.posedirs.flatten(0, 1).T).unflatten(1, (-1, 3))  # [B, V, 3]
        vertices = self._skin(posed, turn, joints)
        return vertices if translation is None else vertices + translation[:, None]

    def _skin(self, posed, turn, joints):
        """Linear blend skinning: each vertex by the weighted mean of its joints' motions from the rest pose."""
        R, t = [turn[:, 0]], [joints[:, 0].expand(len(turn), 3)]  # each joint's frame in the world
        for j in range(1, 5):
            p = self.parents[j]
            R.append(R[p] @ turn[:, j])
            t.append(t[p] + (R[p] @ (joints[:, j] - joints[:, p])[..., None])[..., 0])
        R, t = torch.stack(R, 1), torch.stack(t, 1)  # [B, 5, 3, 3], [B, 5, 3]
        t = t - (R @ joints[..., None])[..., 0]  # from the rest pose, not from the joint
        motion = torch.cat([R, t[..., None]], -1).permute(0, 2, 3, 1)  # [B, 3, 4, 5]
        blend = motion.flatten(1, 2) @ self.weights.T  # [B, 12, V]
        x, y, z = posed.unbind(-1)  # [B, V]
        rows = [blend[:, i] * x + blend[:, i + 1] * y + blend[:, i + 2] * z + blend[:, i + 3] for i in (0, 4, 8)]
        return torch.stack(rows, -1)

    def _batch(self, codes: dict[str, Tensor | None]) -> int:
        sizes = {}
        for name, value in codes.items():
            if value is None:
                continue
            if value.ndim != 2 or value.shape[1] != WIDTHS[name]:
                raise ValueError(f"{name} must be [B, {WIDTHS[name]}], not {list(value.shape)}")
            sizes[name] = len(value)
        batch = max(sizes.values(), default=1)
        if any(size not in (1, batch) for size in sizes.values()):
            raise ValueError(f"batches must be equal or 1: {sizes}")
        return batch

    def landmarks(self, vertices: Float[Tensor, "B V 3"], which: str = "68") -> Float[Tensor, "B L 3"]:
        """The 68 iBUG points or MediaPipe's 478 ("68" or "478") on these vertices, metres.

        Raises ValueError if this head has no such embedding (a FLAME head, until a file with one is given).
        """
        if not hasattr(self, f"lmk{which}_face"):
            raise ValueError(
                f"this {self.source} head has no {which}-point embedding; OpenHead has 68 and 478, for FLAME give "
                "landmark_embedding.npy (68) to load_flame"
            )
        face, bary = getattr(self, f"lmk{which}_face"), getattr(self, f"lmk{which}_bary")
        return (vertices[:, self.faces[face]] * bary[..., None]).sum(2)

    def arkit(self, scores: Float[Tensor, "B 52"]) -> dict[str, Tensor]:
        """Codes expr, jaw and eyes for the 52 ARKit scores in [0, 1], in the order of `arkit_names`.

        Raises ValueError on a head without ARKit actions.
        """
        if not self.arkit_names:
            raise ValueError(f"{self.source} has no ARKit actions: they belong to OpenHead's expression basis")
        return {name: scores @ getattr(self, f"arkit_to_{name}") for name in ("expr", "jaw", "eyes")}

    def require_basis(self, codes_basis: str, where: str = "these codes") -> None:
        """Refuse codes that were made for another basis: the same numbers mean another face there.

        `codes_basis` is a source ("FLAME 2020") or a `Head.basis` (source and fingerprint). FLAME 2020's expression
        directions are not those of 2023, and a rebuilt OpenHead may have other ones than the old. `where` is what the
        message blames. Raises ValueError.
        """
        if codes_basis in (self.source, self.basis):
            return
        raise ValueError(
            f"{where}: made for {codes_basis!r}, but this head is {self.basis!r}. The bases differ, so the codes "
            "would give another face: load the head they were made with, or track the video again with this one"
        )


def viewing_direction(params: dict[str, Float[Tensor, "B _"]], viewmat: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 3"]:
    """The camera's viewing axis in the frame of the skull, a unit vector.

    A head that turns before a still camera and a camera that goes around a still head look the same here: that is
    needed, for trackers put head rotation into the one or into the other (GAGAvatar's into the camera).
    """
    skull = axis_angle_to_matrix(params["rotation"]) @ axis_angle_to_matrix(params["neck"])  # [B, 3, 3]
    return (skull.mT @ viewmat[:, 2, :3, None])[..., 0]


def load_head(path: Path | str = ASSETS / "open_head.npz") -> Head:
    """OpenHead from its npz.

    Raises FileNotFoundError; ValueError if the file is truncated or foreign, naming the array at fault.
    """
    path = Path(path)
    fix = "build it again: python data_scripts/build_open_head.py"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {fix}")
    arrays = {}
    key = "the archive"
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in OPEN_HEAD:
                arrays[key] = file[key]
    except Exception as error:  # zip, zlib and numpy each have their own
        raise ValueError(f"{path}: {key} cannot be read ({error}); {fix}") from error
    _check(arrays, OPEN_HEAD, path, fix)
    return Head(arrays, "OpenHead")


def load_flame(
    model: Path | str, template_obj: Path | str, landmarks: Path | str | None = None, source: str | None = None
) -> Head:
    """FLAME from the reader's own files, with teeth: 5,143 vertices, 10,144 faces, UV for the first 9,976.

    Args:
        model: generic_model.pkl (2020), flame2023.pkl or flame2023_Open.pkl.
        template_obj: head_template.obj, for the UV chart.
        landmarks: landmark_embedding.npy for the 68 points.
        source: which FLAME it is, where the file has been renamed: the numbers inside do not say.

    Raises FileNotFoundError; ValueError for a damaged, foreign or hostile file, or an unknown source.
    """
    model = Path(model)
    source = source or FLAME_FILES.get(model.name)
    if source not in FLAME_FILES.values():
        raise ValueError(f"{model}: cannot tell which FLAME this is; give source, one of {list(FLAME_FILES.values())}")
    arrays = read_flame(model)
    arrays["vt"], arrays["ft"] = read_template_uv(template_obj, arrays["f"])
    expected = MODEL
    if landmarks is not None:
        arrays["lmk68_face"], arrays["lmk68_bary"] = read_landmarks(landmarks)
        expected = MODEL | LANDMARKS_68
    arrays = add_teeth(arrays)
    _check(arrays, expected, model, "download it again")
    return Head(arrays, source)


def _check(arrays: dict[str, np.ndarray], expected: dict, path: Path, fix: str) -> None:
    """Kinds, shapes, index ranges and values. Raises ValueError naming the array."""
    sizes: dict[str, int] = {}

    def refuse(key: str, why: str):
        raise ValueError(f"{path}: {key} {why}; {fix}")

    for key, (kind, shape) in expected.items():
        value = arrays[key]
        found = value.dtype.kind.replace("u", "i")
        if found != kind or value.ndim != len(shape):
            refuse(key, f"is {value.dtype} {list(value.shape)}, expected kind {kind!r} and shape {list(shape)}")
        for size, want in zip(value.shape, shape, strict=True):
            if size != (sizes.setdefault(want, size) if isinstance(want, str) else want):
                refuse(key, f"is {list(value.shape)}, expected {list(shape)} with {sizes}")
        if kind == "f" and not np.isfinite(value).all():
            refuse(key, "holds NaN or infinity")
    for key in INDICES.keys() & expected.keys():
        if arrays[key].min() < 0 or arrays[key].max() >= sizes[INDICES[key]]:
            refuse(key, f"numbers {arrays[key].min()} to {arrays[key].max()}, but there are {sizes[INDICES[key]]}")
    if sizes["U"] > sizes["F"]:
        refuse("ft", f"has {sizes['U']} rows for {sizes['F']} faces")
    for key in ("weights", "lmk68_bary", "lmk478_bary"):
        if key in arrays and np.abs(arrays[key].sum(1) - 1).max() > 1e-3:
            refuse(key, "must sum to 1 in every row")
    parents = arrays["kintree_table"][0].astype(np.uint32).astype(np.int32)
    if parents[0] != -1 or not all(0 <= p < j for j, p in enumerate(parents) if j):
        refuse("kintree_table", f"has parents {parents.tolist()}: the root first, then each joint after its parent")
