"""Steps of training, and checkpoints that resume to the same numbers or are refused by name."""

from dataclasses import replace

import pytest
import torch
from test_nets_generator import SMALL, views

from sa0lib.datasets import Batch
from sa0lib.generator_losses import GeneratorWeights
from sa0lib.head import load_head
from sa0lib.nets import Generator
from sa0lib.train import TrainConfig, Trainer, load_generator, on_background, render_batch, score, train

CONFIG = TrainConfig(steps=4, lr=1e-3, weights=GeneratorWeights(lpips=0.0), checkpoint_every=2)


@pytest.fixture(scope="module")
def head():
    return load_head()


def trainer(head, seed: int = 0, config: TrainConfig = CONFIG) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(Generator(head, SMALL), config)


def batch(step: int = 0) -> Batch:
    """Two samples of two sources, as a loader gives them: pictures are uint8."""
    as_bytes = {name: lambda t: (t * 255).byte() for name in ("image", "mask")}
    sources, target = views(2 * step, 2, 2), views(2 * step + 1, 2)
    box = torch.tensor([16.0, 16, 48, 48]).expand(2, 4)
    pair = [v._replace(**{name: f(getattr(v, name)) for name, f in as_bytes.items()}) for v in (sources, target)]
    return Batch(pair[0], pair[1]._replace(face_box=box), ("a", "b"), ("a", "b"))


def test_a_run_is_decided_by_its_seed(head):
    runs = []
    for _ in range(2):
        runs.append(trainer(head))
        train(runs[-1], (batch(i) for i in range(2)), progress=False)
    assert all(torch.equal(a, runs[1].trained[n]) for n, a in runs[0].trained.items())
    other = trainer(head, config=replace(CONFIG, seed=1))  # other backgrounds and projections
    train(other, (batch(i) for i in range(2)), progress=False)
    assert not all(torch.equal(a, other.trained[n]) for n, a in runs[0].trained.items())


def test_a_stopped_run_goes_on_to_the_same_numbers(head, tmp_path):
    whole = trainer(head)
    train(whole, (batch(i) for i in range(4)), progress=False)
    train(trainer(head), (batch(i) for i in range(3)), tmp_path / "c.pt", progress=False)  # stopped after 3, saved at 2
    again = trainer(head, seed=9)
    again.load(tmp_path / "c.pt")
    assert again.iteration == 2
    train(again, (batch(i) for i in (2, 3)), tmp_path / "c.pt", progress=False)
    assert all(torch.equal(a, again.trained[n]) for n, a in whole.trained.items())
    assert again.history[-1]["step"] == 4


def test_training_on_one_batch_lowers_its_loss(head):
    run = trainer(head, config=replace(CONFIG, steps=25, lr=5e-3))
    train(run, (batch(0) for _ in range(25)), progress=False)
    first, last = run.history[0], run.history[-1]
    assert last["l1"] < 0.98 * first["l1"] and last["loss"] < first["loss"]
    assert set(first) >= {"step", "loss", "gradient", "psnr", "l1", "ms_ssim", "box", "jacobian", "position_tv"}
    assert "lpips" not in first  # its weight is zero


def test_the_backbone_never_changes(head):
    run = trainer(head)
    before = {n: p.clone() for n, p in run.generator.backbone.named_parameters()}
    train(run, (batch(i) for i in range(2)), progress=False)
    assert all(torch.equal(p, before[n]) for n, p in run.generator.backbone.named_parameters())


def test_a_target_on_its_own_background_scores_as_its_picture(head):
    target = views(3, 2)
    half = torch.zeros_like(target.mask)
    half[..., :32] = 1
    shown = on_background(target._replace(mask=half), torch.tensor([[1.0, 1, 1], [0, 0, 0]]))
    assert torch.equal(shown[..., :32], target.image[..., :32])
    assert (shown[0, ..., 32:] == 1).all() and (shown[1, ..., 32:] == 0).all()


@torch.no_grad()
def test_a_head_out_of_sight_renders_as_the_background(head):
    generator = trainer(head).generator
    target = views(4, 2)
    target.params["translation"][:, 0] = 50.0  # metres
    prediction = generator(views(5, 2, 1), target)
    picture = render_batch(generator, prediction, target, torch.tensor([[0.2, 0.4, 0.6], [1.0, 1, 1]]))
    torch.testing.assert_close(picture[0], torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, 64, 64))


def test_scores_are_one_number_a_target(head):
    from sa0lib.datasets import to_float

    assert score(trainer(head).generator, to_float(batch())).shape == (2,)


def spoiled(state: dict, how: str) -> dict:
    name = "decoder.heads.means.first.weight"
    weights = dict(state["generator"])
    if how == "missing":
        del weights[name]
    elif how == "unknown":
        weights["decoder.heads.beard.first.weight"] = weights[name]
    elif how == "of another shape":
        weights[name] = weights[name][:1]
    elif how == "basis":
        return state | {"basis": "FLAME 2020 0123"}
    elif how == "sizes":
        return state | {"sizes": state["sizes"] | {"uv_size": 64}}
    return state | {"generator": weights}


@pytest.mark.parametrize(
    "how, words",
    [
        ("missing", "1 tensors are missing: decoder.heads.means.first.weight"),
        ("unknown", "1 tensors are unknown: decoder.heads.beard.first.weight"),
        ("of another shape", "1 tensors are of another shape: decoder.heads.means.first.weight"),
        ("basis", "its basis are FLAME 2020 0123"),
        ("sizes", "its sizes are"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name_and_nothing_changes(head, tmp_path, how, words):
    run = trainer(head)
    run.save(tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    torch.save(spoiled(state, how), tmp_path / "d.pt")
    generator = trainer(head, seed=1).generator
    before = {n: p.clone() for n, p in generator.named_parameters()}
    with pytest.raises(ValueError, match=f"d.pt: .*{words}"):
        load_generator(generator, tmp_path / "d.pt")
    assert all(torch.equal(p, before[n]) for n, p in generator.named_parameters())


def test_a_damaged_or_missing_checkpoint_is_refused(head, tmp_path):
    generator = trainer(head).generator
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="c.pt: not a readable checkpoint"):
        load_generator(generator, tmp_path / "c.pt")
    with pytest.raises(FileNotFoundError, match="e.pt"):
        load_generator(generator, tmp_path / "e.pt")


def test_a_run_does_not_go_on_under_another_configuration(head, tmp_path):
    trainer(head).save(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="another lr"):
        trainer(head, config=replace(CONFIG, lr=1.0)).load(tmp_path / "c.pt")
