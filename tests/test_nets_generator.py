"""The generator as a whole: pooling, what depends on what, and where it starts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_collection import toy_camera, toy_codes

from sa0lib.binding import triangle_frames
from sa0lib.datasets.clip import Views
from sa0lib.gaussians import Gaussians
from sa0lib.head import load_head
from sa0lib.nets import Generator, GeneratorConfig, Prediction
from sa0lib.nets.decoder import condition, harmonic
from sa0lib.nets.warp import project, texel_points, warp
from tests.benchmarks.generator import portraits

SMALL = GeneratorConfig("alexnet", 32, dense_channels=8, warped_channels=6, width=0.03, style=12, hidden=8)
SIZE = 64


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def generator(head):
    torch.manual_seed(0)
    return Generator(head, SMALL).eval()


def views(seed: int, *batch: int) -> Views:
    """Pictures of noise, with cameras and codes."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(batch))
    codes = [toy_codes(rng, rng.normal(size=(1, 300))) | {"translation": torch.zeros(1, 3)} for _ in range(count)]
    image = torch.from_numpy(rng.uniform(size=(count, 3, SIZE, SIZE)).astype(np.float32))
    cameras = [toy_camera(i % 4, SIZE) for i in range(count)]
    flat = Views(
        image=image,
        mask=torch.ones(count, 1, SIZE, SIZE),
        K=torch.stack([c.K for c in cameras]),
        viewmat=torch.stack([c.viewmat for c in cameras]),
        params={name: torch.cat([c[name] for c in codes]) for name in codes[0]},
        face_box=torch.zeros(count, 4),
        timestep=torch.arange(count),
        camera_index=torch.zeros(count, dtype=torch.long),
    )
    return flat.map(lambda t: t.unflatten(0, batch))


def reordered(sources: Views, order) -> Views:
    return sources.map(lambda t: t[:, order])


@torch.no_grad()
def test_one_source_is_itself_bit_for_bit(generator):
    sources = views(0, 1, 1)
    twice = reordered(sources, [0, 0])
    a, b = generator.encode(sources), generator.encode(twice)
    assert torch.equal(generator._warped(sources.map(lambda t: t[:, 0]))[1], a.summary)
    torch.testing.assert_close(a.features, b.features, rtol=1e-4, atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(3)), st.integers(0, 100))
def test_the_order_of_sources_does_not_matter(generator, order, seed):
    sources = views(seed, 1, 3)
    with torch.no_grad():
        a, b = generator.encode(sources), generator.encode(reordered(sources, list(order)))
    torch.testing.assert_close(a.features, b.features, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_attention_weighs_sources_and_is_the_identity_for_one(head):
    torch.manual_seed(0)
    attentive = Generator(head, replace(SMALL, pool="attention")).eval()
    mean = Generator(head, SMALL).eval()
    mean.load_state_dict({k: v for k, v in attentive.state_dict().items() if not k.startswith("attention")})
    one, three = views(1, 1, 1), views(1, 1, 3)
    torch.testing.assert_close(attentive.encode(one).features, mean.encode(one).features, rtol=1e-4, atol=1e-5)
    a, b = attentive.encode(three), attentive.encode(reordered(three, [2, 0, 1]))
    torch.testing.assert_close(a.features, b.features, rtol=1e-3, atol=1e-4)
    assert (a.features - mean.encode(three).features).abs().max() > 1e-4


@torch.no_grad()
def test_the_target_picture_is_not_looked_at(generator):
    sources, target = views(2, 1, 2), views(3, 1)
    blind = target._replace(image=torch.zeros_like(target.image), mask=torch.zeros_like(target.mask))
    a, b = (generator(sources, t).maps.attributes for t in (target, blind))
    assert all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
def test_what_is_behind_the_head_is_not_looked_at(generator):
    sources = views(4, 1, 1)
    hole = sources.mask.clone()
    hole[..., :20, :20] = 0
    a = sources._replace(mask=hole)
    b = a._replace(image=torch.where(hole > 0, a.image, torch.rand_like(a.image)))
    assert torch.equal(generator.encode(a).features, generator.encode(b).features)


@torch.no_grad()
def test_unseen_texels_get_nothing_unless_asked(head, generator):
    sources = views(5, 1, 1).map(lambda t: t[:, 0])
    chart, _ = generator._warped(sources)
    seen = chart[:, -1:].bool()
    assert 0.1 < seen[0, 0][generator.uv_map.valid].float().mean() < 0.7
    assert not (chart * ~seen).any()
    naive = Generator(head, replace(SMALL, empty_unseen=False)).eval()
    chart, _ = naive._warped(sources)
    assert torch.equal(chart[0, -1].bool(), generator.uv_map.valid)


@torch.no_grad()
def test_a_new_generator_predicts_gaussians_where_refinement_starts(head, generator):
    prediction = generator(views(6, 2, 1), views(7, 2))
    gaussians = generator.gaussians(prediction, 1)
    gray = torch.full((len(generator.uv_map), 3), 0.5)
    start = Gaussians.initial(generator.uv_map, head()[0], head.faces, gray)
    for name in ("means", "log_scales", "quats", "opacity_logits", "color_logits"):
        assert (getattr(gaussians, name) - getattr(start, name)).abs().max() < 0.2, name
    assert torch.equal(gaussians.face, start.face)


def test_samples_of_a_batch_are_independent(generator):
    sources, target = views(8, 2, 2), views(9, 2)
    with torch.no_grad():
        both = generator(sources, target).maps.attributes
        alone = generator(sources.map(lambda t: t[1:]), target.map(lambda t: t[1:])).maps.attributes
    for name in both:
        torch.testing.assert_close(both[name][1:], alone[name], rtol=1e-3, atol=1e-5)


def test_every_trained_parameter_gets_a_gradient(head):
    torch.manual_seed(0)
    generator = Generator(head, SMALL)
    for layer in (generator.decoder.residual.film[-1], *generator.decoder.residual.read.values()):
        torch.nn.init.normal_(layer.weight)  # at zero it does not pass gradients on
    prediction = generator(views(10, 1, 2), views(11, 1))
    sum(v.square().sum() for v in prediction.maps.attributes.values()).backward()
    missing = [n for n, p in generator.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert missing == []
    assert not any(p.requires_grad for p in generator.backbone.parameters())


def test_gradients_flow_from_world_space_to_the_decoder(head, generator):
    """Binding and decoder together: what a rasterizer's gradient has to pass."""
    target = views(12, 1)
    prediction = generator(views(13, 1, 1), target)
    with torch.no_grad():
        frames = triangle_frames(head(**target.params), head.faces)
    means, quats, scales, opacities, colors = generator.gaussians(prediction, 0).world(frames)
    generator.zero_grad()
    (means.sum() + quats.sum() + scales.sum() + opacities.sum() + colors.sum()).backward()
    assert all(head_.last.weight.grad.isfinite().all() for head_ in generator.decoder.heads.values())
    assert all(head_.last.weight.grad.any() for head_ in generator.decoder.heads.values())


def test_warp_decoder_and_binding_together_pass_gradcheck(head):
    """From a dense map to Gaussians in the world, in float64: to the map, the direction and the decoder's weights."""
    torch.manual_seed(0)
    tiny = Generator(head, replace(SMALL, uv_size=8, channels=4, hidden=3)).double()
    for parameter in tiny.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # at zero the residual head passes nothing on
    target = views(14, 1)
    with torch.no_grad():
        vertices = head(**target.params)
        points, _ = texel_points(tiny.uv_map, vertices, head.faces)
        xy, _ = project(points.double(), target.viewmat.double(), target.K.double())
        frames = triangle_frames(vertices.double(), head.faces)
    codes = condition(target.params).double()

    def world(dense, direction, *weights):
        names = dict(zip((n for n, _ in tiny.decoder.named_parameters()), weights, strict=True))
        features = warp(tiny.uv_map, dense, xy, (SIZE, SIZE))
        gamma = harmonic(direction)
        maps = torch.func.functional_call(tiny.decoder, names, (features, gamma, codes))
        return tiny.gaussians(Prediction(maps, gamma), 0).world(frames)

    dense = torch.randn(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    direction = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(world, (dense, direction, *tiny.decoder.parameters()), fast_mode=True)


def test_half_precision_never_touches_the_geometry(generator):
    sources = views(15, 1, 2).map(lambda t: t[0])
    with torch.no_grad():
        exact, _ = generator._warped(sources)
        with torch.autocast("cpu", torch.bfloat16):
            half, _ = generator._warped(sources)
            gamma = generator.decode(generator.encode(views(15, 1, 2)), views(16, 1).params, views(16, 1).viewmat).gamma
    assert torch.equal(exact[:, -1], half[:, -1].float())  # what is seen
    torch.testing.assert_close(half[:, -4:-1].float(), exact[:, -4:-1], rtol=0, atol=5e-3)  # colours: the same places
    assert gamma.dtype == torch.float32


def test_the_same_seed_makes_the_same_generator(head):
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(Generator(head, SMALL).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("change", [{"pool": "max"}, {"uv_size": 0}, {"width": -1.0}])
def test_a_config_out_of_range_is_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=name):
        replace(SMALL, **change)


def test_the_paper_size_model_has_the_papers_sizes(head):
    """One real pass on the CPU: 512 px, 32 x 32 tokens, 256 x 256 texels, 27 and 112 numbers, 58 K Gaussians."""
    torch.manual_seed(0)
    config = GeneratorConfig()
    generator = Generator(head, config).eval()
    sources, target = portraits(1, 512, "cpu"), portraits(1, 512, "cpu").map(lambda t: t[:, 0])
    made = {}
    for name in ("backbone", "dpt"):
        getattr(generator, name).register_forward_hook(lambda _, __, out, name=name: made.update({name: out}))
    with torch.inference_mode():
        person = generator.encode(sources)
        assert [tuple(m.shape) for m in made["backbone"].maps] == [(1, 768, 32, 32)] * 4
        assert made["dpt"].shape == (1, 128, 256, 256)
        assert person.features.shape == (1, 32, 256, 256) and person.summary.shape == (1, 768)
        prediction = generator.decode(person, target.params, target.viewmat)
    assert prediction.gamma.shape == (1, 27) and condition(target.params).shape == (1, 112)
    assert {k: tuple(v.shape[1:]) for k, v in prediction.maps.attributes.items()} == {
        "means": (3, 256, 256),
        "quats": (4, 256, 256),
        "log_scales": (3, 256, 256),
        "colors": (3, 256, 256),
        "opacities": (1, 256, 256),
    }
    gaussians = generator.gaussians(prediction, 0)
    assert 55_000 < len(gaussians) < 61_000 and len(gaussians) == int(generator.uv_map.valid.sum())
    assert all(v.isfinite().all() for v in (gaussians.means, gaussians.quats, gaussians.log_scales))
