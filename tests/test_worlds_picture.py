"""Photographs of generated people (data_scripts.worlds): what they show, against known light and geometry."""

from dataclasses import replace

import drjit as dr
import mitsuba as mi
import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import binary_erosion
from worlds_toys import GRAY, bald_person, even_stage, front_camera

from data_scripts.worlds.generate import makers
from data_scripts.worlds.person import Body
from data_scripts.worlds.photo.denoise import Denoiser
from data_scripts.worlds.photo.materials import lamp, part_bsdf
from data_scripts.worlds.photo.picture import Scene, _aligned, _on_curve, _surroundings
from data_scripts.worlds.photo.stage import AIM, ENV, capture_ring, directions, free_camera, sample_stage
from data_scripts.worlds.photo.tone import srgb, to_bytes
from data_scripts.worlds.photo.variant import PAYS, best_variant, llvm_works
from data_scripts.worlds.wear.parts import Part
from sa0lib.camera import Camera
from sa0lib.head import WIDTHS
from sa0lib.uv import build_uv_map, rasterize_triangles

SIZE = 48
PLACES = ("anywhere", "capture hall", "outdoors", "lectern", "home")
REST = {name: torch.zeros(1, width) for name, width in WIDTHS.items() if name != "shape"}
LOOK = REST | {"rotation": torch.tensor([[0.05, 0.3, 0.0]]), "jaw": torch.tensor([[0.2, 0.0, 0.0]])}
WHITE = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 1.0}}


@pytest.fixture(scope="module")
def head():
    return makers()[0]


@pytest.fixture(scope="module")
def body(head):
    return Body(bald_person(makers()[1]), head, texels=256, strands=0.1)


@pytest.fixture(scope="module")
def rest(body):
    return body.pose(REST)


@pytest.fixture(scope="module")
def look(body):
    return body.pose(LOOK)


@pytest.fixture(scope="module")
def shared_scene(body):
    return Scene(body, even_stage(SIZE), SIZE)


@pytest.fixture
def scene(shared_scene, rest):
    """Even light, the head at rest."""
    shared_scene.pose(rest)
    return shared_scene


def seen_face(head, vertices, camera: Camera) -> np.ndarray:
    """Pixels [H, W] well inside what shows the skin of the face, by projecting the head's triangles."""
    xy, depth = camera.project(torch.from_numpy(vertices))
    shown, _, _ = rasterize_triangles(xy.numpy(), depth.numpy(), head.faces.numpy(), camera.width, camera.height)
    on_face = (head.region.numpy() == head.region_names.index("face"))[head.faces.numpy()].all(1)
    return binary_erosion((shown >= 0) & on_face[shown], iterations=2)


def side_light(of: str, left: bool):
    """A stage lit from one side of the subject (whose left is +x), by its lamp or by its light map."""
    side = 1.0 if left else -1.0
    if of == "lamp":
        return even_stage(SIZE, lamp=(1.5 * side, 0.0, 0.4), power=20.0, env=0.02)
    return even_stage(SIZE, env=np.where(directions()[..., :1] * side > 0.5, 2.0, 0.02))


# --- stage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 1, 9, 22, 30])
def test_a_texel_of_the_light_map_shines_from_its_direction(row):
    mi.set_variant("scalar_rgb")
    for column in (0, 13, 32, 63):
        env = np.zeros((*ENV, 3), np.float32)
        env[row, column] = 1.0
        if row == 0:
            env[0] = 1.0  # all of it is one point, the pole
        light, ray = mi.load_dict({"type": "envmap", "bitmap": mi.Bitmap(env)}), mi.SurfaceInteraction3f()
        ray.wi = mi.Vector3f(*(-directions()[row, column]))
        assert max(light.eval(ray)) > 0.9


@pytest.mark.parametrize("place", PLACES)
def test_the_exposure_brings_a_white_forehead_near_one(place):
    mi.set_variant("scalar_rgb")
    T = mi.ScalarTransform4f
    toward = np.array([0, 0.35, 1.0])
    sensor = {
        "type": "perspective",
        "fov": 1.0,
        "to_world": T().look_at(origin=(0.3 * toward).tolist(), target=[0, 0, 0], up=[0, 1, 0]),
        "film": {"type": "hdrfilm", "width": 4, "height": 4, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
    }
    plate = T().look_at(origin=[0, 0, 0], target=toward.tolist(), up=[0, 1, 0]) @ T().scale(0.01)
    for seed in range(3):
        stage = sample_stage(np.random.default_rng(seed), place, 8)
        lit = mi.load_dict(
            {
                "type": "scene",
                "env": {"type": "envmap", "bitmap": mi.Bitmap(stage.env.copy())},
                "lamp": lamp(stage),
                "plate": {"type": "disk", "to_world": plate, "bsdf": WHITE},
                "sensor": sensor,
            }
        )
        path = mi.load_dict({"type": "path", "max_depth": 2, "hide_emitters": True})
        white = stage.exposure * np.array(mi.render(lit, integrator=path, spp=64, seed=seed)).mean()
        assert 0.8 < white < 1.5  # the gain drawn is 1 to 1.4; the lamp keeps some light off


@pytest.mark.parametrize("place", PLACES)
def test_the_same_seed_gives_the_same_stage(place):
    a, b, other = (sample_stage(np.random.default_rng(seed), place, 16) for seed in (1, 1, 2))
    assert a.env.tobytes() == b.env.tobytes() and a.backdrop.tobytes() == b.backdrop.tobytes()
    assert (a.lamp, a.lamp_radiance, a.exposure) == (b.lamp, b.lamp_radiance, b.exposure)
    assert a.backdrop.tobytes() != other.backdrop.tobytes() or a.env.tobytes() != other.env.tobytes()


@pytest.mark.parametrize("place", PLACES)
def test_light_is_never_negative_and_the_backdrop_can_be_shown(place):
    for seed in range(10):
        stage = sample_stage(np.random.default_rng(seed), place, 16)
        assert stage.env.min() >= 0 and min(stage.lamp_radiance) >= 0 and stage.exposure > 0
        assert stage.backdrop.shape == (16, 16, 3) and 0 <= stage.backdrop.min() and stage.backdrop.max() <= 1


def test_a_capture_hall_has_16_cameras_a_metre_away_and_the_middle_one_straight_ahead():
    cameras = capture_ring(SIZE)
    assert len(cameras) == 16
    for camera in cameras:
        assert float((camera.center - torch.tensor(AIM)).norm()) == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(cameras[8].direction, torch.tensor([0.0, 0.0, -1.0]), atol=1e-6)
    assert len({tuple(np.round(camera.center.tolist(), 3)) for camera in cameras}) == 16


def test_cameras_of_a_capture_hall_go_round_from_the_subjects_right_to_its_left():
    azimuths = [float(torch.atan2(c.center[0], c.center[2])) for c in capture_ring(SIZE)]
    assert azimuths == sorted(azimuths)
    assert azimuths[0] < -0.6 and azimuths[-1] > 0.6


@pytest.mark.parametrize("camera", [*capture_ring(SIZE)[::3], capture_ring(SIZE, 3)[0]], ids=lambda c: str(c.center))
def test_every_camera_of_a_capture_hall_has_the_whole_head_around_the_middle(head, camera):
    xy, depth = camera.project(head.v_template)
    low, high = xy.min(0).values, xy.max(0).values
    assert float(low.min()) > 0 and float(high.max()) < SIZE and float(depth.min()) > 0.5
    assert float((0.5 * (low + high) - SIZE / 2).abs().max()) < SIZE / 8
    assert float((high - low).max()) > SIZE / 2


@pytest.mark.parametrize("place", PLACES)
def test_free_cameras_differ_and_show_the_head_in_like_size(head, place):
    rng = np.random.default_rng(0)
    cameras = [free_camera(rng, place, SIZE) for _ in range(12)]
    heights = [float(np.ptp(camera.project(head.v_template)[0][:, 1].numpy())) for camera in cameras]
    assert max(heights) < 1.6 * min(heights) and min(heights) > SIZE / 2
    assert len({float(camera.K[0, 0]) for camera in cameras}) == 12


# --- tone -----------------------------------------------------------------------------------------------------


def test_the_tone_curve_rises_and_never_reaches_white():
    linear = np.linspace(0, 20, 4000)[:, None, None] * np.ones(3)
    shown = srgb(linear)[:, 0, 0]
    assert (np.diff(shown) > 0).all() and shown[0] == 0 and shown[-1] < 1


def test_the_tone_curve_is_srgb_below_its_shoulder():
    assert to_bytes(srgb(np.full((1, 1, 3), 0.2140))).tolist() == [[[127, 127, 127]]]  # sRGB's middle gray
    assert srgb(np.full((1, 1, 3), -1.0)).max() == 0


# --- what a photograph shows ----------------------------------------------------------------------------------


def test_what_a_pixel_shows_projects_back_into_that_pixel(head, shared_scene, look):
    shared_scene.pose(look)
    camera = front_camera(SIZE, azimuth=0.2)
    survey = shared_scene.survey(camera, seed=1)
    uv = survey.uv[survey.on_head]  # [P, 2]
    points = surface(head, look.vertices, uv)
    xy, depth = camera.project(torch.from_numpy(points).float())
    centres = np.argwhere(survey.on_head)[:, ::-1] + 0.5  # x, y
    assert len(uv) > 300
    assert np.abs(xy.numpy() - centres).max() < 0.55  # rays go through random places of their pixel
    assert np.abs(depth.numpy() - survey.depth[survey.on_head]).max() < 5e-4


def surface(head, vertices: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Points [P, 3] of the mesh at places [P, 2] of its chart: in the triangle of the nearest texel of Omega."""
    chart = build_uv_map(head.vt, head.ft, 1024)
    index = np.full((chart.size, chart.size), -1)
    index[chart.row, chart.col] = np.arange(len(chart))
    at = index[((1 - uv[:, 1]) * chart.size).astype(int), (uv[:, 0] * chart.size).astype(int)]
    assert (at >= 0).mean() > 0.99
    face = chart.face.numpy()[at]
    a, b, c = head.vt.double().numpy()[head.ft.numpy()[face]].transpose(1, 0, 2)  # [P, 2] each
    weights = np.linalg.solve(np.stack([b - a, c - a], -1), (uv - a)[..., None])[..., 0]
    weights = np.column_stack([1 - weights.sum(1), weights])  # [P, 3]
    return (weights[..., None] * vertices.astype(np.float64)[head.faces.numpy()[face]]).sum(1)


def test_depth_is_that_of_the_projected_triangles(head, scene, rest):
    camera = front_camera(SIZE, azimuth=-0.3)
    survey = scene.survey(camera, seed=2)
    xy, z = camera.project(torch.from_numpy(rest.vertices))
    _, _, expected = rasterize_triangles(xy.numpy(), z.numpy(), head.faces.numpy(), SIZE, SIZE)
    face = seen_face(head, rest.vertices, camera) & survey.on_head
    error = survey.depth[face] - expected[face]  # metres; a pixel is 8 mm wide and rays go anywhere through it
    assert face.sum() > 80
    assert np.abs(np.median(error)) < 1e-3
    assert np.median(np.abs(error)) < 3e-3


def test_visible_vertices_lie_at_the_depth_that_the_survey_shows(head, body, rest):
    scene = Scene(body, even_stage(256), 256)
    scene.pose(rest)
    camera = front_camera(256)
    survey = scene.survey(camera, seed=3)
    tip = head.landmarks(torch.from_numpy(rest.vertices)[None], "68")[0, [27, 28, 29, 30, 8]]  # nose and chin
    xy, depth = camera.project(tip)
    columns, rows = xy.floor().long().T.numpy()
    assert survey.on_head[rows, columns].all()
    assert np.abs(survey.depth[rows, columns] - depth.numpy()).max() < 2e-3


@pytest.mark.parametrize("of", ["lamp", "light map"])
def test_light_from_the_subjects_left_brightens_the_left_of_the_face(head, body, rest, of):
    camera = front_camera(SIZE)
    face = seen_face(head, rest.vertices, camera)
    right, left = face.copy(), face.copy()  # of the subject, whose left is on the picture's right
    right[:, SIZE // 2 :], left[:, : SIZE // 2] = False, False
    for from_left in (True, False):
        scene = Scene(body, side_light(of, from_left), SIZE)
        scene.pose(rest)
        linear = scene.shoot(camera, samples=4, seed=0).linear
        bright, dark = (left, right) if from_left else (right, left)
        assert linear[bright].mean() > 1.5 * linear[dark].mean()


def test_light_from_above_brightens_the_top_of_the_head_and_not_the_chin(body, rest):
    scene = Scene(body, even_stage(SIZE, env=np.where(directions()[..., 1:2] > 0, 1.5, 0.02)), SIZE)
    scene.pose(rest)
    survey = scene.survey(front_camera(SIZE), seed=0)
    linear = scene.shoot(front_camera(SIZE), samples=4, seed=0).linear
    rows = np.nonzero(survey.on_head.any(1))[0]
    top, bottom = (np.intersect1d(rows, part) for part in (rows[1:5], rows[-6:-1]))
    assert linear[top][survey.on_head[top]].mean() > 2 * linear[bottom][survey.on_head[bottom]].mean()


def test_the_backdrop_shows_where_nobody_is(scene):
    camera = front_camera(SIZE)
    nobody = binary_erosion(~np.isfinite(scene.survey(camera, seed=0).depth), iterations=3)
    shot = scene.shoot(camera, samples=4, seed=0)
    assert nobody.sum() > 300
    assert np.abs(shot.linear[nobody] - GRAY).max() < 0.02
    assert shot.mask[nobody].max() <= 2


def test_the_matte_is_full_on_the_face_and_empty_on_clothes(head, scene, rest):
    camera = front_camera(SIZE, span=0.5)
    survey, shot = scene.survey(camera, seed=0), scene.shoot(camera, samples=4, seed=0)
    face = seen_face(head, rest.vertices, camera)
    clothes = binary_erosion(np.isfinite(survey.depth) & ~survey.on_head, iterations=3)
    assert face.sum() > 60 and clothes.sum() > 60
    assert shot.mask[face].min() > 240
    assert shot.mask[clothes].max() < 8


def test_the_matte_is_between_along_the_outline(scene):
    shot = scene.shoot(front_camera(SIZE), samples=16, seed=0)
    partly = (shot.mask > 25) & (shot.mask < 230)
    outline = (shot.mask > 127) ^ binary_erosion(shot.mask > 127)
    assert 0.2 * outline.sum() < partly.sum() < 3 * outline.sum()


def test_a_lamp_in_the_line_of_sight_neither_shows_nor_breaks_the_guides(body, rest):
    camera = front_camera(SIZE, distance=2.5)
    toward = camera.center / camera.center.norm()
    stages = (
        even_stage(SIZE, lamp=tuple((1.4 * toward).tolist()), lamp_size=0.1, power=1.0),
        even_stage(SIZE, lamp=(0.0, 3.0, -3.0), lamp_size=0.1, power=1.0),
    )
    traced = []
    for stage in stages:
        scene = Scene(body, stage, SIZE)
        scene.pose(rest)
        traced.append(scene.trace(camera, samples=4, seed=0))
    (_, alpha, guides), (_, clear_alpha, clear_guides) = traced
    assert alpha[SIZE // 2, SIZE // 2] == 1.0
    assert np.array_equal(alpha, clear_alpha)
    assert np.allclose(guides, clear_guides, atol=1e-5)


def test_a_person_close_by_is_not_cut_off(body, scene):
    camera = front_camera(SIZE, distance=0.45)
    survey, (_, alpha, guides) = scene.survey(camera, seed=0), scene.trace(camera, samples=1, seed=0)
    assert survey.on_head[SIZE // 2, SIZE // 2] and survey.depth.min() < 0.4
    assert alpha[SIZE // 2, SIZE // 2] == 1.0 and np.linalg.norm(guides[SIZE // 2, SIZE // 2, 3:6]) > 0.5


# --- reproducible, refused, quiet -----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(scene):
    a, b, other = (scene.shoot(front_camera(SIZE), samples=1, seed=seed) for seed in (4, 4, 5))
    assert a.image.tobytes() == b.image.tobytes() and a.mask.tobytes() == b.mask.tobytes()
    assert a.image.tobytes() != other.image.tobytes()


def test_poses_and_cameras_before_leave_no_trace(body, scene, rest, look):
    new = Scene(body, scene.stage, SIZE)
    new.pose(rest)
    once = new.shoot(front_camera(SIZE), samples=1, seed=6)
    scene.pose(look)
    between = scene.shoot(front_camera(SIZE, azimuth=0.5), samples=1, seed=6)
    scene.pose(rest)
    again = scene.shoot(front_camera(SIZE), samples=1, seed=6)
    assert once.image.tobytes() == again.image.tobytes() and once.mask.tobytes() == again.mask.tobytes()
    assert once.image.tobytes() != between.image.tobytes()


def test_the_same_person_has_the_same_body(body, head):
    again = Body(bald_person(makers()[1]), head, texels=256, strands=0.1)
    assert body.maps.base_color.tobytes() == again.maps.base_color.tobytes()
    assert [t.points.tobytes() for t in body.tufts.values()] == [t.points.tobytes() for t in again.tufts.values()]
    assert [p.vertices.tobytes() for p in body.bust.parts] == [p.vertices.tobytes() for p in again.bust.parts]


def test_a_body_without_brows_colour_in_its_skin_is_shaded_where_brows_grow(head, body):
    shaven = replace(body.person, hair=replace(body.person.hair, brows=replace(body.person.hair.brows, density=0.0)))
    bare = Body(shaven, head, texels=256, strands=0.1)
    changed = np.abs(body.maps.base_color - bare.maps.base_color).max(-1) > 0.02
    assert 0 < changed.mean() < 0.2


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda c: c.resized(SIZE // 2, SIZE // 2), "square"),
        (lambda c: Camera(c.K, c.viewmat, SIZE, SIZE - 8), "square"),
        (lambda c: Camera(c.K + torch.tensor([[0, 0, 3.0], [0, 0, 0], [0, 0, 0]]), c.viewmat, SIZE, SIZE), "centred"),
        (lambda c: Camera(c.K * torch.tensor([[1.0, 1, 1], [1, 1.2, 1], [1, 1, 1]]), c.viewmat, SIZE, SIZE), "pixels"),
    ],
    ids=["smaller", "not square", "off centre", "oblong pixels"],
)
def test_a_camera_that_the_scene_cannot_take_is_refused(scene, change, reason):
    with pytest.raises(ValueError, match=reason):
        scene.shoot(change(front_camera(SIZE)), samples=1, seed=0)


def test_noise_falls_with_samples_and_with_denoising(head, scene, rest):
    camera = front_camera(SIZE)
    face = seen_face(head, rest.vertices, camera)
    clean = scene.trace(camera, samples=128, seed=100)[0][face]
    raw = {n: np.sqrt(((scene.trace(camera, n, seed=n)[0][face] - clean) ** 2).mean()) for n in (1, 16)}
    denoised = np.sqrt(((scene.shoot(camera, 1, seed=1).linear[face] - clean) ** 2).mean())
    assert raw[16] < 0.5 * raw[1]
    assert denoised < 0.5 * raw[1]


def test_samples_agree_in_the_mean(head, scene, rest):
    camera = front_camera(SIZE)
    face = seen_face(head, rest.vertices, camera)
    few = np.mean([scene.trace(camera, 2, seed)[0][face].mean() for seed in range(4)])
    assert few == pytest.approx(scene.trace(camera, 64, seed=50)[0][face].mean(), rel=0.03)


def test_a_compiled_renderer_shows_the_same(head, body, rest):
    if not llvm_works():
        pytest.skip("Mitsuba finds no LLVM library that it works with (Debian: libllvm19)")
    camera, shots, stage = front_camera(SIZE), {}, side_light("lamp", left=True)
    face = seen_face(head, rest.vertices, camera)
    try:
        for variant in ("scalar_rgb", "llvm_ad_rgb"):
            scene = Scene(body, stage, SIZE, variant)
            scene.pose(rest)
            shots[variant] = scene.shoot(camera, samples=32, seed=0)
            assert shots[variant].image.tobytes() == scene.shoot(camera, samples=32, seed=0).image.tobytes()
    finally:
        mi.set_variant("scalar_rgb")
    a, b = shots.values()
    assert np.median(np.abs(a.linear[face] - b.linear[face])) < 0.02
    assert np.abs(a.mask[face].astype(int) - b.mask[face]).max() < 10


def test_a_few_light_paths_are_not_worth_compiling_for():
    assert best_variant(PAYS - 1) == "scalar_rgb"


def test_a_pose_is_photographed_by_what_was_compiled_for_another(body, rest, look):
    if not llvm_works():
        pytest.skip("Mitsuba finds no LLVM library that it works with (Debian: libllvm19)")
    try:
        scene = Scene(body, side_light("lamp", left=True), SIZE, "llvm_ad_rgb")
        with dr.scoped_set_flag(dr.JitFlag.KernelHistory):
            for pose in (rest, look, rest, look):
                dr.kernel_history_clear()
                scene.pose(pose)
                scene.shoot(front_camera(SIZE), samples=1, seed=0)
            used = [kernel["cache_hit"] for kernel in dr.kernel_history() if kernel.get("operation_count", 0) > 1000]
    finally:
        mi.set_variant("scalar_rgb")
    assert len(used) == 2 and all(used)  # the picture and the denoiser's guides


def test_arrays_for_the_renderer_start_on_a_cache_line():
    for n in range(1, 40):
        values = np.random.default_rng(n).standard_normal((n, 3))
        flat = _aligned(values)
        assert flat.ctypes.data % 64 == 0
        assert np.array_equal(flat, np.float32(values).ravel())


def test_polylines_run_through_the_joints_of_the_splines():
    points = np.random.default_rng(0).standard_normal((5, 9, 3))
    radius = np.random.default_rng(1).uniform(1, 2, (5, 9))
    knots = np.arange(-3.0, 10.0)  # uniform: the joints of a cubic are at 0, 1, ..., 6
    spline = BSpline(knots, np.concatenate([points, radius[..., None]], -1), 3, axis=1)
    assert np.allclose(_on_curve(points, radius), spline(np.arange(7.0)).reshape(5, 7, 4))


def test_the_denoiser_leaves_what_is_beside_the_person():
    rng = np.random.default_rng(0)
    color, mask, guide = rng.random((48, 64, 3)), rng.random((48, 64)), np.full((48, 64, 3), 0.5)
    part = np.zeros((48, 64), bool)
    part[16:32, 16:48] = True
    clean, matte = Denoiser()(color, mask, guide, guide, (slice(16, 32), slice(16, 48)))
    assert np.array_equal(clean[~part], color[~part]) and np.array_equal(matte[~part], mask[~part])
    assert clean[part].std() < 0.5 * color[part].std() and matte[part].std() < 0.5 * mask[part].std()


def test_what_the_denoiser_sees_holds_the_person_and_some_room():
    there = np.zeros((64, 128), bool)
    there[20:25, 33:101] = True
    assert _surroundings(there) == (slice(0, 48), slice(16, 128))
    assert _surroundings(~there) == (slice(0, 64), slice(0, 128))
    assert _surroundings(np.zeros((64, 128), bool)) == (slice(0, 64), slice(0, 128))


@pytest.mark.parametrize("tint", [0.97, 0.5, 0.1])
def test_a_tinted_lens_swallows_light_and_is_not_milky(tint):
    corners = np.float32([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]])
    color = np.full((4, 3), tint, np.float32)
    lens = Part("lens", corners, np.int32([[0, 1, 2], [0, 2, 3]]), "glass", color)
    wall = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}}
    behind = {"type": "rectangle", "to_world": mi.ScalarTransform4f().translate([0, 0, -1]).scale(9), "bsdf": wall}
    pane = mi.load_dict({"type": "rectangle", "to_world": mi.ScalarTransform4f().scale(9), "bsdf": part_bsdf(lens)})
    to_world = mi.ScalarTransform4f().look_at(origin=[0, 0, 3], target=[0, 0, 0], up=[0, 1, 0])
    sensor = {"type": "perspective", "to_world": to_world, "film": {"type": "hdrfilm", "width": 8, "height": 8}}
    room = {"type": "constant", "radiance": {"type": "rgb", "value": 1.0}}
    scene = mi.load_dict({"type": "scene", "wall": behind, "pane": pane, "sensor": sensor, "env": room})
    seen = np.array(mi.render(scene, integrator=mi.load_dict({"type": "path"}), spp=256, seed=0))[..., :3].mean()
    assert seen < 0.12  # the reflection of the room; black is seen through it
