"""OpenHead's UV chart: what it must hold, measured on the real head, and the solver behind it on small meshes."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from data_scripts.open_head.chart import unwrap
from data_scripts.open_head.flatten import Flattening, boundary_loop, edges_of, tutte
from sa0lib.paths import ASSETS
from sa0lib.uv import build_uv_map, rasterize_triangles

# ---- the solver ----


def bumpy_disk(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rough surface over the unit disk: vertices, faces (counterclockwise), border."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle)], 1)
    inner = rng.uniform(-0.65, 0.65, (n, 2))
    flat = np.concatenate([rim, inner])
    faces = Delaunay(flat).simplices
    a, b, c = (flat[faces[:, k]] for k in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    faces = np.where(turn[:, None] > 0, faces, faces[:, ::-1])
    return np.concatenate([flat, rng.uniform(-0.3, 0.3, (len(flat), 1))], 1), faces, np.arange(20)


def areas(uv: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed areas of triangles in the plane."""
    a, b, c = (uv[faces[:, k]] for k in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def free(n: int, fixed: np.ndarray) -> sp.csc_matrix:
    """Unknowns: both coordinates of every vertex that is not fixed."""
    keep = np.repeat(~np.isin(np.arange(n), fixed), 2)
    return sp.identity(2 * n, format="csc")[:, keep]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_flattening_never_turns_a_triangle_over(seed):
    vertices, faces, border = bumpy_disk(seed)
    start = tutte(len(vertices), edges_of(faces), border, vertices[border, :2])
    end = Flattening(vertices, faces, np.ones(len(faces))).minimise(start, free(len(vertices), border))
    assert areas(start, faces).min() > 0 and areas(end, faces).min() > 0


def test_a_flat_disk_stays_as_it_is():
    vertices, faces, border = bumpy_disk(3)
    vertices[:, 2] = 0
    start = tutte(len(vertices), edges_of(faces), border, vertices[border, :2])
    end = Flattening(vertices, faces, np.ones(len(faces))).minimise(start, free(len(vertices), border))
    assert np.abs(start - vertices[:, :2]).max() > 0.05  # so there was something to do
    np.testing.assert_allclose(end, vertices[:, :2], atol=2e-3)


def test_a_part_that_wants_more_room_gets_it():
    vertices, faces, border = bumpy_disk(4)
    right = vertices[faces, 0].mean(1) > 0
    start = tutte(len(vertices), edges_of(faces), border, vertices[border, :2])
    share = []
    for wanted in (1.0, 1.5):
        flat = Flattening(vertices, faces, np.where(right, wanted, 1.0))
        share.append(areas(flat.minimise(start, free(len(vertices), border)), faces)[right].sum() / np.pi)
    assert share[1] > share[0] + 0.05


def test_the_gradient_is_the_energy_s_slope():
    vertices, faces, border = bumpy_disk(5)
    flat = Flattening(vertices, faces, np.ones(len(faces)))
    uv = tutte(len(vertices), edges_of(faces), border, vertices[border, :2])
    gradient, H = flat.derivatives(uv)
    step = np.random.default_rng(0).standard_normal(uv.shape)
    h = 1e-7
    slope = (flat.energy(uv + h * step) - flat.energy(uv - h * step)) / (2 * h)
    assert slope == pytest.approx(gradient @ step.ravel(), rel=1e-5)
    assert np.linalg.eigvalsh(H.toarray()).min() > -1e-8 * abs(H).max()


def test_a_sphere_has_no_border_and_a_ring_is_refused():
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    assert len(boundary_loop(tetrahedron)) == 0
    assert sorted(boundary_loop(tetrahedron[:3])) == [0, 2, 3]
    ring = np.array([[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4], [2, 0, 5], [0, 3, 5]])
    with pytest.raises(ValueError, match="neither a disk nor a sphere"):
        boundary_loop(ring)


# ---- the head ----


@pytest.fixture(scope="module")
def head() -> dict:
    path = ASSETS / "open_head.npz"
    if not path.is_file():
        pytest.skip("OpenHead is not built: python -m data_scripts.build_open_head")
    with np.load(path) as file:
        keys = ("v_template", "f", "region", "region_names", "vt", "ft", "lmk68_face", "lmk68_bary")
        arrays = {key: file[key] for key in keys}
    vertices = arrays["v_template"].astype(np.float64)
    names = [str(name) for name in arrays["region_names"]]
    vt, ft = unwrap(vertices, arrays["f"].astype(np.int64), arrays["region"], names)
    region = np.array(names)[arrays["region"]]
    landmarks = (vertices[arrays["f"][arrays["lmk68_face"]]] * arrays["lmk68_bary"][..., None]).sum(1)  # [68, 3]
    return arrays | {"v": vertices, "names": names, "unwrapped": (vt, ft), "regions": region, "landmarks": landmarks}


@pytest.fixture(scope="module")
def texels(head) -> dict:
    """Per face: valid texels at 256 x 256, and metres per texel along the two principal directions."""
    vt, ft = head["vt"].astype(np.float64), head["ft"]
    uv = build_uv_map(vt, ft, 256)
    count = np.bincount(uv.face.numpy(), minlength=len(ft))
    a, b, c = (head["v"][head["f"][:, k]] for k in range(3))
    first = np.linalg.norm(b - a, axis=1)
    along = ((b - a) * (c - a)).sum(1) / first
    space = np.zeros((len(ft), 2, 2))
    space[:, 0, 0], space[:, 0, 1] = first, along
    space[:, 1, 1] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / first
    a, b, c = (vt[ft[:, k]] for k in range(3))
    size = np.linalg.svd(space @ np.linalg.inv(256 * np.stack([b - a, c - a], axis=2)), compute_uv=False)
    region = np.where(np.isin(head["regions"][head["f"]], "face").all(1), "face", head["regions"][head["f"][:, 0]])
    return {"uv": uv, "count": count, "size": size, "region": region}


def test_the_built_head_carries_the_chart_that_the_code_makes(head):
    vt, ft = head["unwrapped"]
    assert np.array_equal(ft, head["ft"])
    np.testing.assert_allclose(vt, head["vt"], atol=2e-5)  # v_template is float32


def test_rows_align_with_the_faces(head):
    assert len(head["ft"]) == len(head["f"])
    corners = np.stack([head["ft"].ravel(), head["f"].ravel()], 1)
    pairs = np.unique(corners, axis=0)
    assert len(np.unique(pairs[:, 0])) == len(pairs)  # every UV corner belongs to one vertex


def test_the_number_of_valid_texels_is_near_the_paper_s(texels):
    assert 55_000 <= len(texels["uv"]) <= 61_000


def test_every_triangle_is_upright_even_in_single_precision(head):
    assert areas(head["vt"].astype(np.float32).astype(np.float64), head["ft"]).min() > 0


@pytest.mark.parametrize("size", [256, 1024])
def test_no_texel_is_covered_twice(head, size):
    vt, ft = head["vt"].astype(np.float64), head["ft"]
    xy = np.stack([vt[:, 0], 1 - vt[:, 1]], 1) * size
    order = np.arange(len(ft))
    # Whoever is drawn last or first at the same depth: if nothing overlaps, both orders show the same faces.
    first = rasterize_triangles(xy, np.ones(len(xy)), ft, size, size)[0]
    last = rasterize_triangles(xy, np.ones(len(xy)), ft[::-1], size, size)[0]
    assert np.array_equal(first[first >= 0], order[::-1][last[last >= 0]])


def test_islands_keep_their_distance(texels, head):
    """No valid texel of one island touches another's, so filters on the map do not mix them."""
    graph = sp.coo_matrix((np.ones(head["f"].size), (head["ft"].ravel(), np.roll(head["ft"], 1, 1).ravel())))
    _, island = sp.csgraph.connected_components(graph, directed=False)
    uv = texels["uv"]
    image = np.full((258, 258), -1)
    image[uv.row.numpy() + 1, uv.col.numpy() + 1] = island[head["ft"][uv.face.numpy(), 0]]
    shifts = [np.roll(image, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    assert all(((shift == image) | (shift < 0) | (image < 0)).all() for shift in shifts)


def test_the_face_has_its_share(head, texels):
    """Between brows and chin, from ear to ear: at least 35 % of all valid texels."""
    points = head["landmarks"]
    middle = head["v"][head["f"]].mean(1)
    low, high = points[8, 1], points[17:27, 1].max()
    face = (texels["region"] == "face") & (middle[:, 1] > low) & (middle[:, 1] < high)
    assert texels["count"][face].sum() / texels["count"].sum() >= 0.35


def test_what_is_hidden_takes_little(texels):
    total = texels["count"].sum()
    share = {r: texels["count"][texels["region"] == r].sum() / total for r in ("mouth", "sockets", "neck")}
    assert share["mouth"] < 0.03 and share["sockets"] < 0.01 and share["neck"] < 0.25


def test_the_face_is_sampled_finely_and_without_much_shear(texels):
    face = texels["region"] == "face"
    size = np.repeat(texels["size"][face], texels["count"][face], axis=0)  # [T, 2] metres
    side, stretch = np.sqrt(size[:, 0] * size[:, 1]), size[:, 0] / size[:, 1]
    assert np.median(side) < 0.0015 and np.percentile(side, 95) < 0.0025
    assert np.median(stretch) < 2.0 and np.percentile(stretch, 95) < 5.0


def test_the_face_looks_upright_and_unmirrored(head):
    corners = head["vt"][head["ft"][head["lmk68_face"]]]  # [68, 3, 2]
    uv = (corners * head["lmk68_bary"][..., None]).sum(1)
    assert uv[8, 1] < uv[57, 1] < uv[33, 1] < uv[27, 1]  # chin, lower lip, nose, nose bridge: upwards
    assert uv[36, 0] < uv[39, 0] < uv[42, 0] < uv[45, 0]  # from the subject's right eye to the left: to the right
    assert abs(uv[30, 0] - 0.5) < 0.01 and abs(uv[30, 1] - 0.5) < 0.2  # the nose is in the middle


def test_the_skin_is_exactly_symmetric(head):
    vt, ft = head["unwrapped"]
    skin = np.unique(ft[head["f"][:, 0] < 4200])
    points = {tuple(p) for p in np.round(vt[skin], 9)}
    assert points == {(round(1 - u, 9), v) for u, v in points}


def test_a_lopsided_skin_and_unknown_parts_are_refused(head):
    vertices, faces = head["v"].copy(), head["f"].astype(np.int64)
    vertices[100, 0] += 1e-3
    with pytest.raises(ValueError, match="not symmetric"):
        unwrap(vertices, faces, head["region"], head["names"])
    with pytest.raises(ValueError, match="regions must be those of"):
        unwrap(head["v"], faces, head["region"], ["moustache", *head["names"][1:]])
    twice = np.concatenate([faces, faces[-3:] - faces[-3:].min() + len(vertices)])
    extra = twice.max() + 1 - len(vertices)
    vertices, region = (np.concatenate([x, x[-extra:]]) for x in (head["v"], head["region"]))
    with pytest.raises(ValueError, match="no place of its own"):
        unwrap(vertices, twice, region, head["names"])
