"""FLAME's files are read exactly, and hostile ones are refused without running anything."""

import functools
import os
import pickle
import pickletools
import struct
import subprocess
from pathlib import Path

import flame_toy
import numpy as np
import pytest
import scipy.sparse
import torch

from sa0lib.flame_files import read_flame, read_landmarks, read_template_uv
from sa0lib.safe_pickle import RefusedGlobal


@pytest.fixture(scope="module")
def model():
    return flame_toy.flame_model()


@pytest.fixture(scope="module")
def small(model):
    """A FLAME model whose large arrays are of one byte per number, for the tests that write many files."""
    return {key: value.astype(np.int8) if value.size > 10**5 else value for key, value in model.items()}


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_python_2_file_with_chumpy_and_sparse_arrays_is_read_exactly(model, tmp_path, protocol):
    found = read_flame(flame_toy.write_flame(model, tmp_path / "generic_model.pkl", protocol))
    assert found.keys() == model.keys()
    for key, value in model.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_the_toy_file_is_of_the_kind_it_claims(model, tmp_path):
    path = flame_toy.write_flame(model, tmp_path / "generic_model.pkl")
    names = {arg for op, arg, _ in pickletools.genops(path.read_bytes()) if op.name == "GLOBAL"}
    assert names == {"chumpy.ch Ch", "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype",
                     "__builtin__ set", "scipy.sparse.csc csc_matrix"}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array"])
def test_todays_numpy_and_scipy_pickles_are_read(small, tmp_path, protocol, kind):
    fields = small | {"J_regressor": getattr(scipy.sparse, kind)(small["J_regressor"])}
    fields["f"] = np.asfortranarray(small["f"]).astype(">i4")
    fields["shapedirs"] = np.ascontiguousarray(small["shapedirs"].transpose(2, 0, 1)).transpose(1, 2, 0)
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(fields, protocol))
    found = read_flame(tmp_path / "flame.pkl")
    for key, value in small.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_shape_directions_beyond_300_plus_100_are_left_out(small, tmp_path):
    longer = np.concatenate([small["shapedirs"], np.ones_like(small["shapedirs"][:, :, :50])], 2)
    path = flame_toy.python2_pickle(small | {"shapedirs": longer}, tmp_path / "flame.pkl")
    np.testing.assert_array_equal(read_flame(path)["shapedirs"], small["shapedirs"])


class Call:
    """Pickles as a call of `function`, which unpickling would make."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def hostile_pickles(sentinel: Path) -> dict[str, tuple[str, bytes]]:
    """name -> (the global that must be named, a pickle that creates the file `sentinel` if it runs)."""
    touch, code = f"touch {sentinel}", f"open({str(sentinel)!r}, 'w')"
    dotted = b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c" + bytes([len(code)]) + code.encode() + b"\x85R."
    rebuild = np._core.multiarray._reconstruct
    inside = (1, (), np.dtype("O"), False, [Call(eval, code)])  # an array of one object
    setstate = b"cchumpy.ch\nCh\n)\x81}(V__setstate__\ncbuiltins\nexec\nubV" + code.encode() + b"\nb."
    return {
        "reduce": ("posix.system", pickle.dumps({"v_template": Call(os.system, touch)}, 2)),
        "stack global": ("posix.system", pickle.dumps({"v_template": Call(os.system, touch)}, 4)),
        "eval": ("builtins.eval", pickle.dumps(Call(eval, code))),
        "python 2 spelling": ("__builtin__.eval", pickle.dumps(Call(eval, code), 2)),
        "subprocess": ("subprocess.Popen", pickle.dumps(Call(subprocess.Popen, ["touch", str(sentinel)]))),
        "partial": ("functools.partial", pickle.dumps(functools.partial(eval, code))),
        "getattr": ("builtins.getattr", pickle.dumps(Call(getattr, "", "join"))),
        "import": ("builtins.__import__", pickle.dumps(Call(__import__, "os"))),
        "inst opcode": ("os.system", b"(S'" + touch.encode() + b"'\nios\nsystem\n."),
        "obj opcode": ("os.system", b"(cos\nsystem\nS'" + touch.encode() + b"'\no."),
        "dotted name": ("builtins.eval.__call__", dotted),
        "other name of an admitted module": ("numpy.load", pickle.dumps(Call(np.load, "x.npy"))),
        "attribute of an admitted name": ("numpy.ndarray.tofile", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."),
        "numpy's code runner": (
            "numpy.testing._private.utils.runstring",
            b"cnumpy.testing._private.utils\nrunstring\n.",
        ),
        "torch storage in a model": ("torch.storage._load_from_bytes", b"ctorch.storage\n_load_from_bytes\n."),
        "inside an array": ("builtins.eval", pickle.dumps(Call(rebuild, np.ndarray, (0,), b"b", state=inside))),
        "setstate": ("builtins.exec", setstate),
    }


@pytest.mark.parametrize("case", hostile_pickles(Path("x")))
def test_a_hostile_pickle_is_refused_by_name_and_nothing_of_it_runs(tmp_path, case):
    sentinel = tmp_path / "ran"
    name, data = hostile_pickles(sentinel)[case]
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(data)
    with pytest.raises(RefusedGlobal, match=f"generic_model.pkl.*{name}"):
        read_flame(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("case", ["reduce", "stack global", "eval", "inst opcode", "dotted name", "inside an array"])
def test_the_hostile_payloads_do_run_in_an_ordinary_unpickler(tmp_path, case):
    pickle.loads(hostile_pickles(tmp_path / "ran")[case][1])
    assert (tmp_path / "ran").exists()


def test_admitted_names_are_never_called(monkeypatch, small, tmp_path):
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps(small | {"J_regressor": scipy.sparse.csc_matrix(small["J_regressor"])}, 2))

    def ran(*args, **kwargs):
        raise AssertionError("a function named in the pickle was called")

    monkeypatch.setattr(np._core.multiarray, "_reconstruct", ran)
    monkeypatch.setattr(scipy.sparse.csc_matrix, "__init__", ran)
    monkeypatch.setattr("_codecs.encode", ran)
    read_flame(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle at all",
        b"cchumpy.ch\nCh\nV1\nb.",  # state for the class itself
        b"cchumpy.ch\nCh\n(V1\nV2\nV3\ntR(V1\nI1\ns.",  # an item set on a record
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame longer than the file
        b"P1\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # an extension code
        b"\x80\x05\x97.",  # an out-of-band buffer
        b"\x80\xff.",  # a protocol of the future
        b"\x80\x02Nr\xff\xff\xff\xff.",  # memo entry 4,294,967,295: the C unpickler makes room for all of them
        pickle.dumps([1, 2]),
    ],
)
def test_damaged_pickles_are_one_clear_error(tmp_path, data):
    (tmp_path / "generic_model.pkl").write_bytes(data)
    with pytest.raises(ValueError, match="generic_model.pkl"):
        read_flame(tmp_path / "generic_model.pkl")


def test_a_truncated_file_says_so(small, tmp_path):
    path = flame_toy.python2_pickle(small, tmp_path / "generic_model.pkl")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="generic_model.pkl: damaged.*download"):
        read_flame(path)


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="generic_model.pkl.*registration"):
        read_flame(tmp_path / "generic_model.pkl")


def test_a_missing_key_and_a_wrong_shape_are_named(small, tmp_path):
    with pytest.raises(ValueError, match="posedirs"):
        read_flame(flame_toy.python2_pickle({k: v for k, v in small.items() if k != "posedirs"}, tmp_path / "a.pkl"))
    with pytest.raises(ValueError, match=r"v_template is \(6890, 3\)"):
        read_flame(flame_toy.python2_pickle(small | {"v_template": np.zeros((6890, 3))}, tmp_path / "b.pkl"))


def sparse_with(regressor: np.ndarray, **changes) -> scipy.sparse.csc_matrix:
    """A sparse matrix with parts put in behind scipy's back."""
    matrix = scipy.sparse.csc_matrix(regressor)
    matrix.__dict__.update(changes)
    return matrix


@pytest.mark.parametrize(
    "changes",
    [
        {"indices": np.full(100, 10**6, np.int32)},  # rows far outside: scipy would write there
        {"indptr": np.array([0, 2**40])},
        {"_shape": (2**31, 2**31)},
        {"_shape": (5,)},
        {"data": np.array(["a"] * 100, object)},
    ],
)
def test_a_malformed_sparse_matrix_is_refused(small, tmp_path, changes):
    fields = small | {"J_regressor": sparse_with(small["J_regressor"], **changes)}
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(fields, 2))
    with pytest.raises(ValueError, match="J_regressor"):
        read_flame(tmp_path / "flame.pkl")


def test_an_array_that_claims_more_than_its_bytes_is_refused(small, tmp_path):
    lie = Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b",
               state=(1, (5023, 5), np.dtype("f8"), False, b"12345678"))  # fmt: skip
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(small | {"weights": lie}, 2))
    with pytest.raises(ValueError, match="weights"):
        read_flame(tmp_path / "flame.pkl")


def test_a_chumpy_wrapper_around_itself_is_refused(small, tmp_path):
    loop = flame_toy.Ch(None)
    loop.x = loop
    with pytest.raises(ValueError, match="weights"):
        read_flame(flame_toy.python2_pickle(small | {"weights": loop}, tmp_path / "flame.pkl"))


@pytest.mark.parametrize("shuffle", [False, True])
def test_uv_rows_and_corners_follow_the_models_faces(model, tmp_path, shuffle):
    vt, ft = read_template_uv(flame_toy.write_template(model, tmp_path / "head_template.obj", shuffle), model["f"])
    expected_vt, expected_ft = flame_toy.uv_chart()
    np.testing.assert_allclose(vt, expected_vt, atol=1e-6)
    np.testing.assert_array_equal(ft, expected_ft)


def test_a_template_of_another_mesh_is_refused(model, tmp_path):
    path = flame_toy.write_template(model, tmp_path / "head_template.obj")
    flipped = model["f"].copy()
    flipped[17] = flipped[17, ::-1]
    with pytest.raises(ValueError, match="head_template.obj.*triangles"):
        read_template_uv(path, flipped)


@pytest.mark.parametrize("text", ["", "not an obj", "v 0 0 0\nf 1 2 3\n", "vt 0 0\nf 1/1 2/1 3/1 4/1\n"])
def test_an_obj_without_a_triangle_chart_is_refused(model, tmp_path, text):
    (tmp_path / "head_template.obj").write_text(text)
    with pytest.raises(ValueError, match="head_template.obj"):
        read_template_uv(tmp_path / "head_template.obj", model["f"])


def test_landmarks_are_read_beside_torch_tensors_that_stay_shut(tmp_path):
    fields = flame_toy.landmark_embedding()
    shut = {"dynamic_lmk_faces_idx": torch.arange(6), "dynamic_lmk_bary_coords": torch.rand(2, 3)}
    np.save(tmp_path / "landmark_embedding.npy", np.array(fields | shut, dtype=object))
    face, bary = read_landmarks(tmp_path / "landmark_embedding.npy")
    np.testing.assert_array_equal(face, fields["full_lmk_faces_idx"][0])
    np.testing.assert_array_equal(bary, fields["full_lmk_bary_coords"][0])


def test_a_hostile_landmark_file_is_refused(tmp_path):
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.array({"full_lmk_faces_idx": Call(eval, f"open({str(tmp_path / 'ran')!r}, 'w')")}, dtype=object))
    with pytest.raises(RefusedGlobal, match="landmark_embedding.npy.*builtins.eval"):
        read_landmarks(path)
    assert not (tmp_path / "ran").exists()


def test_a_tensor_payload_in_a_landmark_file_is_never_opened(tmp_path):
    """torch's storage loader is itself an unpickler: a payload inside must stay bytes, and reading it must fail."""
    inner = pickle.dumps(Call(eval, f"open({str(tmp_path / 'ran')!r}, 'w')"))
    tensor = Call(torch.storage._load_from_bytes, inner)
    np.save(tmp_path / "landmark_embedding.npy", np.array({"full_lmk_faces_idx": tensor}, dtype=object))
    with pytest.raises(ValueError, match="full_lmk_faces_idx"):
        read_landmarks(tmp_path / "landmark_embedding.npy")
    assert not (tmp_path / "ran").exists()


def test_a_landmark_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.zeros((68, 3)))
    with pytest.raises(ValueError, match="plain array"):
        read_landmarks(path)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 4) + b"oops")
    with pytest.raises(ValueError, match="landmark_embedding.npy"):
        read_landmarks(path)
    np.save(path, np.array({"static_lmk_faces_idx": np.arange(51)}, dtype=object))
    with pytest.raises(ValueError, match="full_lmk_faces_idx"):
        read_landmarks(path)
