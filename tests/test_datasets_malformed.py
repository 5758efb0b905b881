"""Malformed input, one row each: one clear error that names file and field, and nothing on disk has changed."""

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_collection import BASIS, toy_records, write_collection

from sa0lib.camera import Camera, intrinsics
from sa0lib.datasets import (
    Collection,
    Sequence,
    check_replaceable,
    index_sequence,
    read_manifest,
    whole_folder,
    write_manifest,
)
from sa0lib.datasets.samplers import phase_1
from sa0lib.datasets.shards import ShardBatches, Shards, write_shards
from sa0lib.datasets.writer import write_sequence


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A collection of three sequences by two cameras, and its shards (two and one); secrets lie beside them."""
    base = tmp_path_factory.mktemp("pristine")
    write_collection(base / "world", 3, 5, cameras=2)
    write_shards(Collection(base / "world", "train"), base / "shards", 2)
    shutil.copytree(base / "world" / "000000", base / "elsewhere")
    return base


@pytest.fixture
def base(pristine, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "base")


def fingerprint(base: Path) -> dict[str, str]:
    """Every path under `base`: bytes, or where a link points."""
    return {
        str(path.relative_to(base)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(base.rglob("*"))
    }


# --- ways to damage -------------------------------------------------------------------------------------------------


def in_json(file, change):
    """Damage that edits a JSON file."""

    def damage(base):
        data = json.loads((base / file).read_text())
        change(data)
        (base / file).write_text(json.dumps(data))

    return damage


def frame(**fields):
    """... fields of frame 1 of the first sequence; None takes the field away."""

    def change(data):
        data["frames"][1] |= fields
        for key in [key for key, value in fields.items() if value is None]:
            del data["frames"][1][key]

    return in_json("world/000000/transforms_train.json", change)


def also_in_test(**fields):
    """Damage that puts frame 1 of the first sequence into its test split as well, but for some fields."""

    def damage(base):
        shutil.copyfile(base / PNG, base / "world/000000/images/copy.png")
        entry = json.loads((base / TRANSFORMS).read_text())["frames"][1] | fields
        (base / "world/000000/transforms_test.json").write_text(json.dumps({"frames": [entry]}))

    return damage


def in_manifest(change):
    return in_json("world/manifest.json", change)


def in_index(change):
    return in_json("shards/shards.json", change)


def entry(**fields):
    """... fields of the first sequence in the manifest."""
    return in_manifest(lambda data: data["sequences"][0].update(fields))


def span(**fields):
    """... fields of its training split."""
    return in_manifest(lambda data: data["sequences"][0]["splits"]["train"].update(fields))


def codes(**arrays):
    """... arrays of the codes of instant 0."""

    def damage(base):
        path = base / "world/000000/flame_param/00000.npz"
        with np.load(path) as file:
            kept = {key: file[key] for key in file.files} | arrays
        np.savez(path, **{key: value for key, value in kept.items() if value is not None})

    return damage


def put(file, content):
    """Damage that writes bytes, or what a function makes of those there."""

    def damage(base):
        path = base / file
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return damage


def link(file, target):
    def damage(base):
        shutil.rmtree(base / file) if (base / file).is_dir() else (base / file).unlink()
        (base / file).symlink_to(base / target)

    return damage


def saved(file, picture):
    return lambda base: picture.save(base / file)


SHARD, FIRST = "shards/000000.tar", "000000.tar"


def members(path):
    with tarfile.open(path) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def in_shard(change):
    """Damage that rewrites the first shard from a changed list of (header, bytes)."""

    def damage(base):
        rows = change(members(base / SHARD))
        with tarfile.open(base / SHARD, "w") as tar:
            for info, data in rows:
                tar.addfile(info, io.BytesIO(data))

    return damage


def header(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def in_clip(**arrays):
    """... arrays of the first clip.npz in the first shard."""

    def change(rows):
        (info, data), *rest = rows
        with np.load(io.BytesIO(data)) as file:
            kept = {key: file[key] for key in file.files} | arrays
        buffer = io.BytesIO()
        np.savez(buffer, **{key: value for key, value in kept.items() if value is not None})
        info.size = len(buffer.getvalue())
        return [(info, buffer.getvalue()), *rest]

    return in_shard(change)


def negative_size(raw):
    raw = bytearray(raw)
    raw[124:136] = b"\xff" * 12  # -1 in base 256
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


# --- ways to read ---------------------------------------------------------------------------------------------------


def manifest(base):
    read_manifest(base / "world")


def sequence(base):
    opened = Sequence(base / "world/000000", "train")
    return [opened[i] for i in range(len(opened))]


def index(base):
    index_sequence(base / "world", "000000", "x")


def clip(base):
    return Collection(base / "world", "train")[0].views([0, 1])


def shards(base):
    return [c.views(range(len(c))) for c in Shards(base / "shards").stream(0, 0)]


NAN, PNG, NPZ = float("nan"), "world/000000/images/00000_00.png", "world/000000/flame_param/00000.npz"
MATTE = "world/000000/fg_masks/00000_00.png"
TRANSFORMS = "world/000000/transforms_train.json"
BOMB = np.array([{"a": print}], dtype=object)

# reader -> what it is, how the copy is damaged, words that the error must have
CASES = {
    sequence: [
        ("json that is a list", put(TRANSFORMS, b"[]"), "transforms_train.json is no list of frames"),
        ("json that is cut off", put(TRANSFORMS, lambda raw: raw[:99]), "transforms_train.json is no list"),
        ("json nested too deeply", put(TRANSFORMS, b"[" * 10**5), "transforms_train.json is no list"),
        ("json that is no text", put(TRANSFORMS, b"\xff\xfe\x00"), "transforms_train.json is no list"),
        ("missing camera", frame(transform_matrix=None), "json: frame 1 has no 'transform_matrix'"),
        ("missing focal length", frame(fl_y=None), "json: frame 1 has no 'fl_y'"),
        ("NaN in the camera", frame(transform_matrix=[[NAN] * 4] * 4), "frame 1, transform_matrix must be finite"),
        ("camera with 3 rows", frame(transform_matrix=[[1, 0, 0, 0]] * 3), "frame 1, transform_matrix must be"),
        ("mirrored camera", frame(transform_matrix=np.diag([-1, 1, 1, 1]).tolist()), "transform_matrix: .*rotation"),
        ("transposed camera", frame(transform_matrix=(np.eye(4) + np.eye(4, k=-3)).tolist()), "row 0 0 0 1"),
        ("negative focal length", frame(fl_x=-32.0), "frame 1, fl_x and fl_y must be positive"),
        ("negative size", frame(w=-16), "frame 1, w must be an integer from 1 to 2147483647, not -16"),
        ("size in words", frame(h="16"), "frame 1, h must be an integer from 1 to 2147483647, not '16'"),
        ("fractional timestep", frame(timestep_index=0.5), "frame 1, timestep_index must be an integer"),
        ("path that is a number", frame(file_path=7), "frame 1, file_path must be a path in quotes, not 7"),
        ("path that leaves the root", frame(file_path="../../elsewhere/images/00000_00.png"), "file_path .* outside"),
        ("absolute path", frame(flame_param_path="/etc/hostname"), "flame_param_path .* points outside"),
        ("link out of the root", link(PNG, "elsewhere/images/00000_00.png"), "file_path .* points outside"),
        ("face_box of three", frame(face_box=[1, 2, 3]), "frame 1, face_box must be finite numbers of shape"),
        ("face_box beside the picture", frame(face_box=[0, 20, 9, 30]), "face_box .* is beside the picture of 16 x 16"),
        ("enormous timestep", frame(timestep_index=1e25), r"frame 1, timestep_index must be an integer .* not 1e\+25"),
        ("enormous size", frame(w=10**25), "frame 1, w must be an integer from 1 to 2147483647, not 1000"),
        ("zero byte in a path", frame(file_path="images/\0.png"), r"file_path 'images/\\x00.png' is no path"),
        ("one picture for two frames", frame(file_path="images/00000_00.png"), "frames 0 and 1 have one file_path"),
        ("true for a focal length", frame(fl_x=True), "frame 1, fl_x must be finite numbers"),
        ("true in the camera", frame(transform_matrix=[[True] * 4] * 4), "transform_matrix must be finite numbers"),
        ("focal length beyond float32", frame(fl_x=1e300), "frame 1, fl_x must be finite numbers"),
        ("truncated picture", put(PNG, lambda raw: raw[: len(raw) // 2]), "00000_00.png cannot be decoded"),
        ("picture that is text", put(PNG, b"hello"), "00000_00.png cannot be decoded"),
        ("picture of another size", saved(PNG, Image.new("RGB", (8, 16))), "00000_00.png is 8 x 16, but .*16 x 16"),
        ("picture of 16 bits", saved(PNG, Image.new("I;16", (16, 16))), "00000_00.png has mode 'I;16'"),
        ("matte of 16 bits", saved(MATTE, Image.new("I;16", (16, 16))), "fg_masks/00000_00.png has mode 'I;16'"),
        ("matte with an alpha", saved(MATTE, Image.new("LA", (16, 16))), "00000_00.png has mode 'LA', grey and alpha"),
        ("matte in the alpha", saved(MATTE, Image.new("RGBA", (16, 16))), "00000_00.png has mode 'RGBA', grey and"),
        ("matte of ones", saved(MATTE, Image.new("L", (16, 16), 1)), "00000_00.png: greatest value 1: multiply by 255"),
        ("NaN in the pose", codes(jaw_pose=np.full((1, 3), NAN)), "00000.npz: jaw_pose holds NaN"),
        ("pose of text", codes(rotation=np.array(["a", "b", "c"])), "00000.npz: rotation must hold 3 numbers"),
        ("missing codes", codes(eyes_pose=None), "00000.npz has no 'eyes_pose'"),
        ("50 expressions", codes(expr=np.zeros((1, 50))), "00000.npz: expr must hold 100 numbers"),
        ("expression beyond float32", codes(expr=np.full((1, 100), 1e300)), "00000.npz: expr holds NaN or infinity"),
        ("offset beyond float32", codes(static_offset=np.full((7, 3), 1e300)), "static_offset must be finite vectors"),
        (
            "unknown FLAME version",
            codes(codes_basis=np.array("FLAME 2031")),
            "00000.npz: unknown codes_basis 'FLAME 2031'",
        ),
        ("hostile npz", codes(expr=BOMB), "00000.npz is damaged.*allow_pickle"),
        ("hostile basis", codes(codes_basis=BOMB), "00000.npz is damaged.*allow_pickle"),
        ("offset of odd length", codes(static_offset=np.ones(7)), "00000.npz: static_offset must be finite vectors"),
        ("truncated npz", put(NPZ, lambda raw: raw[:200]), "00000.npz is damaged"),
    ],
    manifest: [
        ("manifest that is a list", put("world/manifest.json", b"[]"), "manifest.json must be an object, not list"),
        (
            "manifest with a key twice",
            put("world/manifest.json", lambda raw: raw.replace(b'"name": "toy"', b'"name": "toy", "name": "x"')),
            "manifest.json is damaged.*'name' stands there twice",
        ),
        ("manifest cut off", put("world/manifest.json", lambda raw: raw[:-50]), "manifest.json is damaged"),
        ("future format", in_manifest(lambda d: d.update(format=9)), "format is 9, this reader"),
        ("world without a name", in_manifest(lambda d: d["world"].pop("name")), "world has no 'name'"),
        ("unknown basis", in_manifest(lambda d: d.update(basis="SMPL-X")), "unknown basis 'SMPL-X'"),
        ("no sequences", in_manifest(lambda d: d.update(sequences=[])), "sequences is empty"),
        ("duplicate name", entry(name="000001"), r"sequences\[1\].name '000001' is listed twice"),
        ("name that leaves the root", entry(name="../elsewhere"), r"sequences\[0\].name '../elsewhere'"),
        ("absolute name", entry(name="/etc"), r"sequences\[0\].name '/etc'"),
        ("name with a dot", entry(name="a.b"), r"sequences\[0\].name 'a.b'"),
        ("identity that is a number", entry(identity=7), r"sequences\[0\].identity must be a str"),
        ("hash that is none", entry(sha256="abc"), r"sequences\[0\].sha256 must be 64"),
        ("unknown split", entry(splits={"eval": {}}), r"sequences\[0\].splits.eval"),
        ("negative count", span(frames=-1), r"sequences\[0\].splits.train.frames must be an integer from 1"),
        ("enormous count", span(frames=10**25), r"train.frames must be an integer from 1 to 2147483647, not 1000"),
        ("camera twice", span(cameras=[0, 0]), r"splits.train.cameras must be ascending and distinct"),
        ("impossible count", span(frames=99), "99 frames cannot be 2 cameras x 5 timesteps"),
        ("list that was cut", in_manifest(lambda d: d["sequences"].pop()), "sha256 is not that of"),
    ],
    index: [
        (
            "picture in two splits",
            also_in_test(timestep_index=9),
            "transforms_test.json: picture .*/00000_01.png is in .*/transforms_train.json too",
        ),
        (
            "instant in two splits",
            also_in_test(file_path="images/copy.png"),
            "transforms_test.json: timestep 0 of camera 1 is in .*/transforms_train.json too",
        ),
    ],
    clip: [
        ("matte of ones", saved(MATTE, Image.new("L", (16, 16), 1)), "00000_00.png: greatest value 1: multiply by 255"),
        ("wrong count of frames", span(frames=9), "transforms_train.json has 10 frames, the manifest says 9"),
        ("sequence of another basis", in_manifest(lambda d: d.update(basis="FLAME 2020")), "codes_basis is"),
        ("sequence that is a link", link("world/000000", "elsewhere"), "name '000000' points outside"),
        (
            "transforms with a key twice",
            put("world/000000/transforms_train.json", lambda raw: raw.replace(b'"w": 16', b'"w": 16, "w": 8', 1)),
            "transforms_train.json is no list of frames.*'w' stands there twice",
        ),
        ("empty face box", frame(face_box=[9, 2, 5, 9]), "frame 1, face_box must be x0 y0 x1 y1"),
        (
            "sequence that is gone",
            lambda base: shutil.rmtree(base / "world/000000"),
            "000000/transforms_train.json is missing",
        ),
        (
            "instant and camera twice",
            frame(timestep_index=0, camera_index=0),
            "two frames with timestep 0 and camera_index 0",
        ),
    ],
    shards: [
        ("shard that is missing", lambda base: (base / SHARD).unlink(), f"{FIRST} is missing"),
        ("shard cut in a picture", put(SHARD, lambda raw: raw[: len(raw) // 2]), f"{FIRST}: .*truncated"),
        ("shard cut between files", in_shard(lambda rows: rows[:21]), f"{FIRST}: ends after 1 of 2 sequences"),
        ("shard that is no tar", put(SHARD, b"x" * 2000), f"{FIRST}: damaged at or after its beginning"),
        (
            "shard that is compressed",
            put(SHARD, b"\x1f\x8b" + bytes(600)),
            f"{FIRST}: damaged at or after its beginning",
        ),
        (
            "picture left out of a shard",
            in_shard(lambda rows: rows[:5] + rows[6:]),
            f"{FIRST}: 0000.*9 of the 10 image",
        ),
        ("file twice in a shard", in_shard(lambda rows: [rows[0], *rows]), f"{FIRST}: 0000.*clip.npz is there twice"),
        ("sequence twice", in_shard(lambda rows: rows + rows[:21]), f"{FIRST}: 0000.*clip.npz is there twice"),
        (
            "sequences in another order",
            in_shard(lambda rows: rows[21:] + rows[:21]),
            f"{FIRST}: .* where the index lists",
        ),
        (
            "member that leaves the root",
            in_shard(lambda rows: [(header("../a.clip.npz"), b""), *rows]),
            "refused member '../a",
        ),
        ("absolute member", in_shard(lambda rows: [(header("/etc/a.clip.npz"), b""), *rows]), "refused member '/etc/a"),
        (
            "pickle in a shard",
            in_shard(lambda rows: [(header("000000.pyd"), b""), *rows]),
            "refused member '000000.pyd'",
        ),
        (
            "link in a shard",
            in_shard(lambda rows: [(header("a.clip.npz", tarfile.SYMTYPE, "/etc"), b""), *rows]),
            "type '2'",
        ),
        ("device in a shard", in_shard(lambda rows: [(header("a.clip.npz", tarfile.CHRTYPE), b""), *rows]), "type '3'"),
        ("member with a negative size", put(SHARD, negative_size), f"{FIRST}: 0000.*says it has -1 bytes"),
        ("hostile clip", in_clip(expr=BOMB), f"{FIRST}: 0000.*clip.npz is damaged.*allow_pickle"),
        ("clip without cameras", in_clip(viewmat=None), r"clip.npz: viewmat must be f \[10, 4, 4\], not missing"),
        ("clip of other numbers", in_clip(timestep=np.zeros(10)), r"clip.npz: timestep must be i \[10\], not float64"),
        ("clip with NaN", in_clip(K=np.full((10, 3, 3), NAN, np.float32)), "clip.npz: K holds NaN"),
        (
            "clip with a mirrored camera",
            in_clip(viewmat=-np.eye(4, dtype="f")[None].repeat(10, 0)),
            "viewmat: .*rotation",
        ),
        (
            "clip with a negative size",
            in_clip(size=np.full((10, 2), -16)),
            "size and focal lengths in K must be positive",
        ),
        ("clip of another basis", in_clip(codes_basis=np.array("FLAME 2020")), "clip.npz: codes_basis is not"),
        ("index that is a list", put("shards/shards.json", b"[]"), "shards.json: must be an object"),
        (
            "shard file that leaves the root",
            in_index(lambda d: d["shards"][0].update(file="../x.tar")),
            r"shards\[0\].file must be",
        ),
        (
            "shard file that is a command",
            in_index(lambda d: d["shards"][0].update(file="pipe:ls")),
            r"shards\[0\].file must be",
        ),
        (
            "sequence in two shards",
            in_index(lambda d: d["shards"].append(d["shards"][0])),
            r"shards\[2\].sequences: '0000.*twice",
        ),
        ("sequence in no shard", in_index(lambda d: d["shards"].pop()), "are in no shard: .'0000"),
    ],
}


ROWS = [pytest.param(read, *case[1:], id=case[0]) for read, cases in CASES.items() for case in cases]


@pytest.mark.parametrize("read, damage, words", ROWS)
def test_malformed_input_is_refused_by_file_and_field(base, read, damage, words):
    damage(base)
    before = fingerprint(base)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        read(base)
    assert str(base) in str(caught.value), "the error must name the file"
    assert len(str(caught.value).splitlines()) == 1
    assert fingerprint(base) == before


def test_every_reader_accepts_what_is_not_damaged(base):
    before = fingerprint(base)
    for read in (manifest, sequence, index, clip, shards):
        read(base)
    assert fingerprint(base) == before


def bad_camera():
    return Camera(intrinsics(32.0, 16, 16), torch.full((4, 4), NAN), 16, 16)


RECORDS = [
    ("float picture", {"image": np.zeros((16, 16, 3))}, "image must be uint8, not float64"),
    ("matte with three channels", {"mask": np.zeros((16, 16, 3), np.uint8)}, "differ in size"),
    ("matte of another size", {"mask": np.zeros((8, 16), np.uint8)}, "differ in size"),
    ("NaN in the camera", {"camera": bad_camera()}, "K or viewmat of the camera holds NaN"),
    ("NaN in the box", {"face_box": (0, 0, NAN, 1)}, "face_box must be four finite numbers"),
    ("box that is empty", {"face_box": (5, 2, 5, 9)}, "face_box must be x0 y0 x1 y1 with x0 < x1"),
    ("box beside the picture", {"face_box": (20, 0, 30, 9)}, "face_box .* is beside the picture of 16 x 16"),
    ("box of three", {"face_box": (0, 0, 1)}, "face_box must be four finite numbers"),
    ("matte of ones", {"mask": np.ones((16, 16), np.uint8)}, "timestep 2, camera 0: mask: greatest value 1"),
    ("unknown split", {"split": "eval"}, "split must be one of"),
    ("negative timestep", {"timestep": -1}, "timestep must be an integer from 0"),
    ("enormous timestep", {"timestep": 2**31}, "timestep must be an integer from 0 to 2147483647"),
    ("codes without expression", {"params": {"shape": torch.zeros(1, 300)}}, "params has no 'expr'"),
    ("instant and camera twice", {"timestep": 0, "camera_index": 0}, "timestep 0, camera 0 comes twice"),
    ("other codes of another camera", {"timestep": 0, "camera_index": 1}, "timestep 0, camera 1: expr differs from"),
]


@pytest.mark.parametrize("changes, words", [row[1:] for row in RECORDS], ids=[row[0] for row in RECORDS])
def test_a_malformed_record_is_not_written_and_the_earlier_sequence_stays(base, changes, words):
    records = list(toy_records(0, 3, 1, 16))
    for name, value in changes.items():
        setattr(records[2], name, value)
    before = fingerprint(base)
    with pytest.raises(ValueError, match=words), whole_folder(base / "world/000000") as part:
        write_sequence(part, records, BASIS)
    assert fingerprint(base) == before


def test_a_sequence_is_not_written_into_another(base):
    before = fingerprint(base)
    with pytest.raises(FileExistsError, match="EXP-2 lies within the sequence .*/000000"):
        check_replaceable(base / "world/000000/EXP-2")
    assert fingerprint(base) == before


def test_a_sequence_that_holds_another_is_not_replaced(base):
    shutil.copytree(base / "world/000001", base / "world/000000/EXP-2")
    before = fingerprint(base)
    with pytest.raises(FileExistsError, match="000000 has another sequence in it, .*/EXP-2"):
        check_replaceable(base / "world/000000")
    assert fingerprint(base) == before


def test_codes_of_the_wrong_width_are_not_written(base):
    records = list(toy_records(0, 3, 1, 16))
    records[1].params = records[1].params | {"expr": torch.zeros(2, 100)}
    with pytest.raises(ValueError, match="timestep 1, camera 0: expr must hold 100 numbers, not .2, 100"):
        write_sequence(base / "new", records, BASIS)


def test_a_manifest_of_two_bases_or_of_nothing_is_not_written(base):
    entries = read_manifest(base / "world").sequences
    before = fingerprint(base)
    for wrong in (entries + [index_sequence_of_flame(base)], []):
        with pytest.raises(ValueError, match="manifest.json: sequences must share one codes_basis"):
            write_manifest(base / "world", {"name": "toy"}, wrong)
    with pytest.raises(ValueError, match="listed twice"):
        write_manifest(base / "world", {"name": "toy"}, entries + entries[:1])
    assert fingerprint(base) == before


def index_sequence_of_flame(base):
    return replace(read_manifest(base / "world").sequences[0], name="other", basis="FLAME 2020")


def test_a_sequence_without_frames_cannot_be_indexed(base):
    for split in ("train", "val", "test"):
        (base / f"world/000000/transforms_{split}.json").write_text('{"frames": []}')
    with pytest.raises(ValueError, match="000000: no frame"):
        index_sequence(base / "world", "000000", "x")
    with pytest.raises(ValueError, match="name '../elsewhere' points outside"):
        index_sequence(base / "world", "../elsewhere", "x")


def test_a_damaged_shard_stops_training_with_its_name(base):
    put(SHARD, lambda raw: raw[: len(raw) // 2])(base)
    with pytest.raises(ValueError, match=f"{FIRST}.*truncated"):
        list(islice(ShardBatches(base / "shards", phase_1(9), 2), 9))
