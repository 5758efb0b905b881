"""Per-subject refinement, Sec. 3.3: ten thousand photometric steps on frozen bindings and a frozen count.

`python -m sa0lib.refine --data data/clip` refines a tracked subject, can be killed and started again at any time, and
ends with the avatar as PLY and its scores on the held-out frames.
"""

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from sa0lib.anti_spike import aspect_loss, clamp_log_scales_, max_aspect_ratio
from sa0lib.avatar import (
    PosedFrames,
    error_by_place,
    evaluate,
    first_colors,
    load_posed_frames,
    mean_scores,
    preview,
    reference_frame,
    render,
)
from sa0lib.binding import triangle_frames
from sa0lib.checkpoint import read_checkpoint, write_checkpoint
from sa0lib.datasets import Sequence
from sa0lib.gaussians import Gaussians
from sa0lib.head import Head
from sa0lib.lanes import threads_for_kernels
from sa0lib.ledger import record_run
from sa0lib.losses import composite, photometric_loss
from sa0lib.options import add_head_options, chosen_head
from sa0lib.paths import DATA, RUNS
from sa0lib.profile import current_profile
from sa0lib.uv import build_uv_map

ATTRIBUTES = ("means", "quats", "log_scales", "opacity_logits", "color_logits")


@dataclass(frozen=True)
class RefineConfig:
    """Every constant of the refinement. "Paper" marks what Sec. 3.3, A.2 and A.4 state; the rest they leave open."""

    iterations: int = 10_000  # paper
    image_size: int = 256  # px, width and height of the training frames
    uv_size: int = 256  # paper: one Gaussian for each valid texel of a 256 x 256 grid
    lr_means: float = 2e-3  # units of s_f; five times more reaches hair sooner, and tears the face in unseen views
    lr_quats: float = 1e-3
    lr_log_scales: float = 1e-2
    lr_opacity_logits: float = 5e-2
    lr_color_logits: float = 1e-2
    l1_weight: float = 0.8  # 3DGS's split between L1 and SSIM
    ssim_weight: float = 0.2
    scale_freeze: int = 500  # paper: scales do not move before this iteration
    aspect_from: int = 500  # paper: Eq. (4) joins the objective here
    aspect_weight: float = 0.5  # paper, A.2
    aspect_tau: float = math.log(4.0)  # log-aspect budget of Eq. (4)
    log_scale_min: float = math.log(1e-2)  # in units of s_f
    log_scale_max: float = math.log(4.0)
    log_spread_max: float = math.log(8.0)  # e^spread bounds the axis ratio; the paper's table 9 ends near 8
    jaw_noise: float = 1e-3  # paper, A.4
    seed: int = 0
    checkpoint_every: int = 1000


class Refiner:
    """The state of one refinement: Gaussians, optimizer, generator, iteration. `step()` is one iteration."""

    def __init__(self, head: Head, train: PosedFrames, config: RefineConfig):
        self.train, self.config = train, config
        with torch.no_grad():
            # frozen like the mesh; under a megabyte each
            self.frames = [triangle_frames(vertices[None], head.faces) for vertices in train.vertices]
        self.reference = reference_frame(train.jaw, config.jaw_noise, config.seed)
        self.gaussians = initial_gaussians(head, train, self.reference, config.uv_size)
        for name in ATTRIBUTES:
            getattr(self.gaussians, name).requires_grad_(True)
        groups = [
            {"params": [getattr(self.gaussians, name)], "lr": getattr(config, f"lr_{name}"), "name": name}
            for name in ATTRIBUTES
        ]
        self.optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, config.iterations)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.iteration = 0
        self.seconds = 0.0  # spent in `refine`, over all the sessions of this run
        self.history: list[dict[str, float]] = []

    @threads_for_kernels()
    def step(self) -> dict[str, float]:
        """One iteration of Eq. (5) on a random frame and a random background; returns its loss and PSNR."""
        config, gaussians = self.config, self.gaussians
        i = int(torch.randint(len(self.train), (1,), generator=self.generator))
        background = torch.rand(3, generator=self.generator).to(self.train.vertices)
        color, alpha, meta = render(gaussians, self.frames[i], self.train.cameras[i])
        rendered = composite(color, alpha, background)
        target = composite(*self.train.target(i), background)
        loss = photometric_loss(rendered, target, config.l1_weight, config.ssim_weight)
        if self.iteration >= config.aspect_from:
            visible = (meta["radii"][0] > 0).all(-1)
            loss = loss + config.aspect_weight * aspect_loss(meta["covars2d"][0], visible, config.aspect_tau)
        self.optimizer.zero_grad()
        loss.backward()
        if self.iteration < config.scale_freeze:
            gaussians.log_scales.grad = None  # Adam passes over it: neither the scales nor their moments move
        self.optimizer.step()
        self.schedule.step()
        if self.iteration >= config.scale_freeze:
            clamp_log_scales_(
                gaussians.log_scales.data, config.log_scale_min, config.log_scale_max, config.log_spread_max
            )
        self.iteration += 1
        mse = float((rendered.detach() - target).square().mean())
        return {"loss": float(loss.detach()), "psnr": -10 * math.log10(max(mse, 1e-10))}

    def save(self, path: Path) -> None:
        """Write the whole state atomically."""
        state = {
            "config": asdict(self.config),
            "timesteps": self.train.timesteps,
            "gaussians": {name: getattr(self.gaussians, name).detach() for name in ATTRIBUTES},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "history": self.history,
        }
        write_checkpoint(path, state)

    def load(self, path: Path) -> None:
        """Continue from `save`d state: the run goes on to the same numbers as one that was never stopped.

        Raises:
            ValueError: the file is damaged, or belongs to another configuration or another set of frames.
        """
        state = read_checkpoint(path)
        for field, value in asdict(self.config).items():
            if state["config"].get(field) != value:
                raise ValueError(
                    f"{path}: was written with {field} = {state['config'].get(field)}, this run has {value}; "
                    "choose another output folder or delete the checkpoint"
                )
        if state["timesteps"] != self.train.timesteps:
            raise ValueError(f"{path}: was written for other training frames; delete it to start again")
        with torch.no_grad():
            for name in ATTRIBUTES:
                getattr(self.gaussians, name).copy_(state["gaussians"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.iteration, self.seconds = state["iteration"], state["seconds"]
        self.history = state["history"]


def initial_gaussians(head: Head, train: PosedFrames, reference: int, uv_size: int) -> Gaussians:
    """One Gaussian a valid texel, on the surface, coloured from the reference frame; on the frames' device."""
    uv_map = build_uv_map(head.vt.cpu(), head.ft.cpu(), uv_size)
    vertices, faces, camera = train.vertices[reference].cpu(), head.faces.cpu(), train.cameras[reference].to("cpu")
    image, matte = (x[reference].cpu().float() / 255 for x in (train.images, train.masks))
    colors = first_colors(uv_map, vertices, faces, camera, image, matte)
    gaussians = Gaussians.initial(uv_map, vertices, faces, colors)
    return Gaussians(**{f.name: getattr(gaussians, f.name).to(train.vertices.device) for f in fields(gaussians)})


def refine(refiner: Refiner, checkpoint: Path | None = None, progress: bool = True) -> None:
    """Step `refiner` to the end of its schedule, from `checkpoint` on if that file exists.

    Every 50 iterations the mean training PSNR (dB, on the random backgrounds) and the largest aspect ratio of any
    Gaussian go to the progress bar and to `refiner.history`.
    """
    if checkpoint is not None and checkpoint.exists():
        refiner.load(checkpoint)
    config, recent, start = refiner.config, [], time.perf_counter() - refiner.seconds
    bar = tqdm(total=config.iterations, initial=refiner.iteration, desc="refine", disable=not progress)
    while refiner.iteration < config.iterations:
        recent.append(refiner.step()["psnr"])
        last = refiner.iteration == config.iterations
        if refiner.iteration % 50 == 0 or last:
            psnr, aspect = sum(recent) / len(recent), max_aspect_ratio(refiner.gaussians.log_scales.detach())
            row = {"iteration": refiner.iteration, "psnr": psnr, "max_aspect_ratio": aspect}
            refiner.history.append(row)
            bar.set_postfix(psnr=f"{psnr:.2f} dB", max_aspect=f"{aspect:.2f}")
            bar.update(refiner.iteration - bar.n)
            recent = []
        if checkpoint is not None and (refiner.iteration % config.checkpoint_every == 0 or last):
            refiner.seconds = time.perf_counter() - start
            refiner.save(checkpoint)
    refiner.seconds = time.perf_counter() - start
    bar.close()


def main() -> None:
    profile = current_profile()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA / "clip",
        help="a tracked subject (transforms_*.json, images/, fg_masks/, flame_param/)",
    )
    add_head_options(parser)
    parser.add_argument("--out", type=Path, help="default: data/refined/NAME of the data folder")
    parser.add_argument("--iterations", type=int, default=profile.refine_iters)
    parser.add_argument("--image-size", type=int, default=profile.image_size, help="pixels")
    parser.add_argument("--seed", type=int, default=RefineConfig.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--record", metavar="NAME", help="write the scores to book/results/runs/NAME.json")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"refine: {error}")


def run(arguments: argparse.Namespace) -> None:
    """Refine, score, and write avatar.ply, preview.png and the record of the run."""
    start = time.perf_counter()
    out = arguments.out or DATA / "refined" / arguments.data.name
    config = RefineConfig(
        iterations=arguments.iterations,
        image_size=arguments.image_size,
        uv_size=current_profile().uv_size,
        seed=arguments.seed,
    )
    head = chosen_head(arguments).to(arguments.device)
    splits = (Sequence(arguments.data, split, config.image_size) for split in ("train", "test"))
    train, test = (load_posed_frames(head, split) for split in splits)
    refiner = Refiner(head, train, config)
    gaussians = refiner.gaussians
    before = evaluate(gaussians, head, test)
    refine(refiner, out / "checkpoint.pt")
    after = evaluate(gaussians, head, test)
    out.mkdir(parents=True, exist_ok=True)
    gaussians.save_ply_local(out / "avatar.ply")
    pixels = (preview(gaussians, head, train, 2 * len(train) // 3) * 255).round().to(torch.uint8)
    Image.fromarray(pixels.numpy()).save(out / "preview.png")
    result = {
        "config": asdict(config),
        "frames": {"train": len(train), "test": len(test), "reference": train.timesteps[refiner.reference]},
        "gaussians": len(gaussians),
        "before": mean_scores(before),
        "after": mean_scores(after),
        "after_on_training_frames": mean_scores(evaluate(gaussians, head, train)),
        "after_by_frame": after,
        "error_by_place": error_by_place(gaussians, head, test),
        "seconds_per_iteration": refiner.seconds / config.iterations,
        "history": refiner.history,
    }
    name, folder = arguments.record or "record", RUNS if arguments.record else out
    path = record_run(name, result, config.seed, time.perf_counter() - start, folder)
    for stage in ("before", "after"):
        print(stage, {name: round(value, 4) for name, value in result[stage].items()})
    print(f"avatar: {out / 'avatar.ply'}\nscores: {path}")


if __name__ == "__main__":
    main()
