# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-generator)=
# # 04 · From portraits to Gaussians in one pass
#
# **How can a network that looks at one to four pictures say where tens of thousands of Gaussians belong, without any optimisation?**
#
# You will learn to
#
# - carry picture features to the texels of the chart, and keep the back of the head from reading the face,
# - pool any number of sources so that order does not matter and one source is left alone,
# - steer a StyleGAN2 by a U-Net, and decode its 32 channels into Gaussians,
# - settle which vector the "camera direction" is,
# - count what the paper's generator costs, and see a small one learn on two cores.
#
# | time | needs |
# | --- | --- |
# | 40 minutes to read, about 4 to run on two CPU cores | {ref}`ch-binding` for texels and triangle frames; convolutions; no GPU, no gated weights |

# %% [markdown]
# ## What the paper says
#
# Sec. 3.2 describes one network, $f_\theta$. A frozen DINOv3 backbone {cite}`simeoni2025` with a trainable DPT head {cite}`ranftl2021` gives a dense feature map of every source;
# a warp takes it to the chart; the mean over sources goes to a StyleUNet, a StyleGAN2 {cite}`karras2020` with layers of spatial feature transform {cite}`wang2018`. Of
# its 32 channels and a code of the target's camera five heads make local position, rotation, scale, colour and opacity for each texel, and a FiLM head {cite}`perez2018` corrects four of them
# for the target's expression.
#
# ```text
# K pictures ─ backbone ┬ DPT ─ warp ─ mean over K ┬ StyleUNet ─ 32 channels
#                       └ CLS ──────── mean over K ┘
#
# 32 channels ┬ camera ──── five heads ─┬ Gaussians
#             └ expression ─ FiLM head ─┘
# ```
#
# App. A.1 adds the warp, the camera code (Eq. 6) and the expression code (Eq. 7). Widths are not given. The StyleUNet's and those inside the DPT head are GAGAvatar's {cite}`chu2024`, the rest is ours; all stand in `GeneratorConfig`.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from PIL import Image
from torch import nn

from sa0lib import viz
from sa0lib.head import load_head
from sa0lib.paths import DATA, RUNS
from sa0lib.profile import current_profile
from sa0lib.uv import build_uv_map

viz.setup()
torch.manual_seed(0)
profile = current_profile()
head = load_head()

# %% [markdown]
# ## 1 · Sources and a target
#
# A *source* is a picture with its matte, its camera and the head's codes. Ours are four frames of the real clip; the target is a fifth, of which the network may know the camera and the codes
# but never the picture.

# %%
from sa0lib.datasets.clip import read_clip
from sa0lib.datasets.manifest import index_sequence

size = profile.image_size
entry = index_sequence(DATA, "clip", "speaker")
clip, held_out = read_clip(DATA, entry, "train"), read_clip(DATA, entry, "test")


# %%
def views(clip, chosen, size=size):
    """Frames of a clip with pictures and mattes in [0, 1]."""
    v = clip.views(chosen, size)
    return v._replace(image=v.image.float() / 255, mask=v.mask.float() / 255)


turns = clip.direction[:, 0].argsort()  # from one side to the other
chosen = turns[torch.linspace(0, len(turns) - 1, 4).long()].tolist()
sources = views(clip, chosen)
white = sources.image * sources.mask + 1 - sources.mask

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four portraits of one woman on white: frowning with closed eyes, twice laughing upwards, and smiling with her head tilted."}, "figure": {"caption": "Four sources. What is behind the head says nothing about it, so it is painted white.", "name": "fig-sources"}}
viz.show_images(
    list(white.permute(0, 2, 3, 1)),
    [f"frame {int(t)}" for t in sources.timestep],
    columns=4,
)

# %% [markdown]
# ## 2 · A frozen backbone
#
# DINOv3's weights are gated, so the book's own runs use AlexNet's convolutions {cite}`krizhevsky2012`, trained on ImageNet, which the set-up obtained for LPIPS anyway. Both come behind one interface: four feature maps and one
# vector that sums the picture up. **This is the largest deviation of the desk rung from the paper**, and every record names its backbone.

# %%
from sa0lib.nets.encoder import make_backbone

backbone = make_backbone("alexnet")
features = backbone(white)
[tuple(m.shape[1:]) for m in features.maps], tuple(features.summary.shape[1:])

# %% [markdown]
# Whoever has the weights writes `Generator(head, GeneratorConfig("dinov3_vitb16"), weights="path/to/folder")`; VGG16 is there too. A transformer's four maps are all of one size, 1/16 of the picture, and a DPT head first
# brings them to four sizes; convolutions come as a pyramid. From there on all is alike: the head fuses from coarse to fine and ends at half the picture's resolution.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A portrait and four maps of false colours, from fine, where edges of eyes and hair can be seen, to coarse, where only large patches for hair, face and background remain."}, "figure": {"caption": "The first source and its four feature maps: three leading principal components as red, green and blue.", "name": "fig-features"}}


def principal(field):
    """Three leading components of a map [C, h, w], as a picture."""
    flat = field.flatten(1).T
    flat = flat - flat.mean(0)
    _, _, axes = torch.linalg.svd(flat, full_matrices=False)
    shown = flat @ axes[:3].T
    return (0.5 + shown / (4 * shown.std(0))).clamp(0, 1).unflatten(0, field.shape[1:])


names = [f"{m.shape[-1]} × {m.shape[-1]}, {m.shape[1]} channels" for m in features.maps]
viz.show_images(
    [white[0].permute(1, 2, 0), *(principal(m[0]) for m in features.maps)],
    ["source", *names],
    columns=5,
    width=9.5,
)

# %% [markdown]
# ## 3 · The warp
#
# A texel knows its triangle and its barycentric weights. The source's mesh says where that is in space, the source's camera where that is in the picture, and there the features are read, and the source's colour too:
#
# ```{math}
# :label: eq-warp
# \mathbf F_\text{UV}[t] = \mathbf F\big(\pi(\textstyle\sum_k b_{t,k}\, \mathbf v_{f(t),k})\big) .
# ```
#
# There is nothing to learn in it. By hand, for colours:

# %%
uv_map = build_uv_map(head.vt, head.ft, profile.uv_size)
vertices = head(**sources.params)  # [4, V, 3]
corners = vertices[:, head.faces[uv_map.face]]  # [4, G, 3, 3]
points = (corners * uv_map.bary[..., None]).sum(2)
R, t = sources.viewmat[:, :3, :3], sources.viewmat[:, None, :3, 3]
pixels = (points @ R.mT + t) @ sources.K.mT
pixels = pixels[..., :2] / pixels[..., 2:]  # [4, G, 2]
grid = (2 * pixels / size - 1)[:, None]
read = nn.functional.grid_sample(white, grid, align_corners=False)[:, :, 0]  # [4, 3, G]

# %% [markdown]
# The same from the library, already on the chart:

# %% tags=["nbval-check-output"]
from sa0lib.nets.warp import on_chart, project, texel_points, visible, warp

places, normals = texel_points(uv_map, vertices, head.faces)
xy, depth = project(places, sources.viewmat, sources.K)
charts = warp(uv_map, white, xy, (size, size))  # [4, 3, N, N]
print(
    "the same:",
    bool(torch.allclose(charts[:, :, uv_map.row, uv_map.col], read, atol=1e-4)),
)

# %% [markdown]
# ### What a source does not see
#
# The paper stops here. But a point on the back of the head projects into the picture as well, right onto the face, and reads it. So do the tongue and the teeth behind closed lips. Texels that a source cannot see must be
# found out: those that turn away from the camera, and those with something in front of them. For the second, the texels themselves make a coarse depth image, one scatter operation.

# %%
seen = visible(places, normals, sources.viewmat, sources.K, (size, size))  # [4, G]
kept = charts * on_chart(uv_map, seen[:, None].float())

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three charts. The first is full; its upper part, the back of the head, is smeared with skin and hair from the picture. In the second the upper part, one side, the eye openings and the mouth are black. The third is the mask: white where seen."}, "figure": {"caption": "Colours of one source on the chart. Without a test for visibility the back of the head reads the face; with it those texels get nothing.", "name": "fig-warp"}}
valid = uv_map.valid
mask = on_chart(uv_map, seen[:, None].float())
shown = [torch.where(valid, c[0], 1.0).permute(1, 2, 0) for c in (charts, kept)]
shown.append(torch.where(valid, 0.3 + 0.7 * mask[0, 0], 1.0))
viz.show_images(shown, ["every texel reads", "seen texels read", "seen"], columns=3)

# %% tags=["hide-input"]
wrong = 1 - seen.float().mean(1)
person = on_chart(
    uv_map,
    nn.functional.grid_sample(sources.mask, (2 * xy / size - 1)[:, None], align_corners=False)[:, :, 0],
)
fooled = ((person[:, 0][:, uv_map.row, uv_map.col] > 0.5) & ~seen).float().mean(1)
Markdown(
    f"Of all texels {100 * wrong.min():.0f} to {100 * wrong.max():.0f} % are not seen by a source, and {100 * fooled.mean():.0f} % of all would read the person's pixels although they are not seen."
)

# %% [markdown]
# A network might learn to distrust those places. `sa0lib` empties them and says so in one more channel; `GeneratorConfig(empty_unseen=False)` is the paper's text to the letter. Below both are trained.
#
# **Check: the warp undoes rendering.** Paint the head, render it, and read the picture back: seen texels must find their own colour. A picture is coarser than the chart, so the bound is loose for the mean and says nothing for single texels.

# %%
from sa0lib.avatar import picture
from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.gaussians import Gaussians

neutral = head()[0]
paint = head.vertex_color[head.faces[uv_map.face]]  # [G, 3, 3]
paint = (paint * uv_map.bary[..., None]).sum(1)  # [G, 3]
painted = Gaussians.initial(uv_map, neutral, head.faces, paint)


# %%
def warped_back(azimuth, side):
    """The painted head, rendered and read back: its chart, and what is seen."""
    camera = Camera(
        intrinsics(3.6 * side, side, side),
        orbit(azimuth, 0.05, 1.2, neutral.mean(0)),
        side,
        side,
    )
    rendered = picture(painted, head, neutral, camera)
    place, normal = texel_points(uv_map, neutral[None], head.faces)
    at, _ = project(place, camera.viewmat[None], camera.K[None])
    chart = warp(uv_map, rendered, at, (side, side))
    seen = visible(place, normal, camera.viewmat[None], camera.K[None], (side, side))
    return chart[0], seen[0]


chart, front = warped_back(0.0, 2 * profile.image_size)
apart = (chart[:, uv_map.row, uv_map.col].T - paint).abs().mean(1)

# %% tags=["nbval-check-output"]
print(
    "seen texels find their colour within 0.05 on average:",
    bool(apart[front].mean() < 0.05),
)
print(
    "unseen texels are at least twice as far off:",
    bool(apart[~front].mean() > 2 * apart[front].mean()),
)

# %% [markdown]
# Walk around the head and watch what the chart may read, without the test on the left and with it on the right:

# %% tags=["hide-input"]
angles = np.linspace(-180, 180, profile.turntable_frames, endpoint=False)
frames = []
for degrees in angles:
    chart, front = warped_back(np.radians(degrees), profile.image_size)
    chart = torch.where(valid, chart, 1.0)
    hidden = torch.where(
        uv_map.scatter(front[:, None].float())[..., 0] > 0,
        chart,
        torch.where(valid, 0.85, 1.0),
    )
    frames.append(torch.cat([chart, hidden], -1).permute(1, 2, 0))
viz.image_slider(
    frames,
    [f"{a:+.0f}°" for a in angles],
    "Two charts of the painted head, read back from a camera that walks around it; on the left the face is smeared over the back of the head, on the right only what the camera sees is filled",
    "camera",
    width=640,
)

# %% [markdown]
# ## 4 · Any number of sources
#
# Each source is warped by itself; then charts and summaries are *averaged*. The mean has no parameters, gives one source back as it is, and does not care about order. Both are tested bit for bit and to
# rounding in `tests/test_nets_generator.py`; here with the colours:

# %% tags=["nbval-check-output"]
print("identity for one source:", torch.equal(kept[:1].mean(0), kept[0]))
print(
    "order does not matter:",
    bool(torch.allclose(kept.mean(0), kept.flip(0).mean(0), atol=1e-6)),
)

# %% [markdown]
# With emptied texels the mean has a side effect: a texel that $m$ of $K$ sources see comes out at $m/K$ of its colour. The network can undo that, because the channel that says "seen" is averaged along: dividing by it gives the mean
# of those that saw.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of four charts for one to four sources. Above, the plain mean: darker at the sides, where not all sources see. Below, divided by the share of sources that see: evenly lit, and the covered part grows from left to right."}, "figure": {"caption": "Sources pooled, one to four. Above, the plain mean of what was seen; below, divided by the pooled mask.", "name": "fig-pool"}}
plain, divided = [], []
for k in range(1, 5):
    total, share = kept[:k].mean(0), mask[:k].mean(0)
    plain.append(torch.where(valid, total, 1.0).permute(1, 2, 0))
    divided.append(
        torch.where(valid, torch.where(share > 0, total / share.clamp_min(1e-6), 0.85), 1.0).permute(1, 2, 0)
    )
viz.show_images(
    plain + divided,
    [f"K = {k}" for k in range(1, 5)] + [f"K = {k}, divided" for k in range(1, 5)],
    columns=4,
)

# %% [markdown]
# Table 5 also tries attention and does not say in which form. Ours: one logit for each texel and source, and a softmax over sources. `GeneratorConfig(pool="attention")` builds it; for one source the softmax is one, so it is the identity, too.

# %% [markdown]
# ## 5 · The StyleUNet
#
# In UV space the face is always in the same place, which is what convolutions like. As we read the paper, the generator has two halves that meet at every size. A U-Net reads the pooled chart down to 4 × 4 texels and back up. A StyleGAN2
# starts from a learned constant and doubles its size step by step; at each, its features $h$ are steered by those of the U-Net $u$, a spatial feature transform:
#
# ```{math}
# :label: eq-sft
# h \leftarrow h \odot \big(1 + \tanh s(u)\big) + t(u),
# ```
#
# with two small convolutions $s$ and $t$. The hyperbolic tangent is ours: it bounds what a row of such scales can multiply up to. The source's summary vector enters as the *style*, which
# scales the input channels of each StyleGAN2 convolution, after which the output is brought back to unit variance ("demodulation"). {cite:t}`karras2020` build a kernel for each sample. The library scales input and output of one kernel instead:

# %% tags=["nbval-check-output"]
from sa0lib.nets.styleunet import ModulatedConv

conv = ModulatedConv(6, 5, style=8)
x, style = torch.randn(2, 6, 9, 9), torch.randn(2, 8)
scale = conv.style(style)[:, None, :, None, None]
kernels = conv.weight[None] * scale  # [B, O, C, 3, 3]
kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
each = [nn.functional.conv2d(x[i : i + 1], kernels[i], padding=1) for i in range(2)]
print(
    "as a kernel for each sample:",
    bool(torch.allclose(conv(x, style) - conv.bias, torch.cat(each), atol=1e-5)),
)

# %% [markdown]
# (The paper cites StyleAvatar {cite}`wang2023`, whose StyleUNet works on wavelets, and says that SFT layers are modulated by the CLS token; how, it does not say. SFT from a U-Net is what GPAvatar and GAGAvatar do, but there the
# style comes from the U-Net's own 4 × 4 map. Here the U-Net steers and the CLS token is the style. StyleGAN2's noise inputs are left out: they would make a person flicker from call to call.)

# %% [markdown]
# ## 6 · Which vector is the camera's direction?
#
# App. A.1: $\mathbf d$ is the "third column of the target view's world-to-camera matrix". For a matrix $W$ that acts on column vectors, as in OpenCV and here, that is the *world's* $z$ axis seen from the camera. The camera's own viewing axis is the third **row**. PyTorch3D,
# which the paper's tracker uses, multiplies row vectors from the left, so its matrix is the transpose, and its third column is our third row. A test tells which is useful: a camera that merely *rolls* about its own axis still looks at the same thing from the same side.


# %%
def rolled(viewmat, angle):
    """The camera, turned about its own viewing axis."""
    c, s = np.cos(angle), np.sin(angle)
    roll = torch.eye(4)
    roll[:2, :2] = torch.tensor([[c, -s], [s, c]], dtype=torch.float32)
    return roll @ viewmat


def moves(matrices, pick):
    """Degrees between the vector picked from each matrix and that from the first."""
    vectors = torch.stack([pick(m) for m in matrices])
    return torch.rad2deg((vectors @ vectors[0]).clamp(-1, 1).acos())


picks = {"third row": lambda m: m[2, :3], "third column": lambda m: m[:3, 2]}
turn = np.linspace(0, np.pi / 3, 13)
start = orbit(0.3, 0.4, 1.2, torch.zeros(3))
walks = {
    "rolls": [rolled(start, a) for a in turn],
    "walks around": [orbit(0.3 + a, 0.4, 1.2, torch.zeros(3)) for a in turn],
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two plots of degrees against the camera's own motion in degrees. Left, the camera rolls: the third row stays at zero and the third column moves. Right, the camera walks around: both move."}, "figure": {"caption": "What a rolling camera and one that walks around do to both candidates.", "name": "fig-direction"}}
_, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for axis, (motion, matrices) in zip(axes, walks.items(), strict=True):
    for name, pick in picks.items():
        axis.plot(np.degrees(turn), moves(matrices, pick), label=name)
    axis.set(title=f"the camera {motion}", xlabel="degrees that the camera moves")
axes[0].set_ylabel("degrees that the vector moves")
axes[0].legend()
plt.show()

# %% tags=["nbval-check-output"]
still = {name: float(moves(walks["rolls"], pick).max()) for name, pick in picks.items()}
print("the row ignores a roll:", still["third row"] < 0.1)
print("the column follows it:", still["third column"] > 10)

# %% [markdown]
# So the third row it is. One step more: trackers put the head's rotation either into the head's codes or into the camera (GAGAvatar's does the latter). `viewing_direction` therefore takes the axis into the frame of the *skull*: a head that turns before a still
# camera and a camera that walks around a still head are then the same. Eq. 6 makes 27 numbers of it; {ref}`ch-jacobian` has a whole chapter on what they may and may not do.

# %%
from sa0lib.nets.decoder import condition, harmonic

gamma = harmonic(clip.direction[chosen])
codes = condition(sources.params)
tuple(gamma.shape), tuple(codes.shape)

# %% [markdown]
# ## 7 · From channels to Gaussians
#
# Five parallel heads of two convolutions each see the 32 channels and $\gamma$, the same at every texel. A convolution of something constant is constant (if the constant goes on beyond the border), so the library adds one vector in the place of 27 more input maps.
# The residual head is another matter: it sees 112 numbers (Eq. 7: expression, head rotation, jaw, eyes) and *not* $\gamma$, and corrects all but opacity.

# %%
from sa0lib.nets.decoder import ATTRIBUTES, CONDITION, DIRECTION, Decoder

decoder = Decoder(32, 16).double()
channels = torch.randn(1, 32, 8, 8, dtype=torch.float64)
g, c = gamma[:1].double(), codes[:1].double()
nn.init.normal_(decoder.residual.film[-1].weight, std=0.1)  # as if it had been trained
for read in decoder.residual.read.values():
    nn.init.normal_(read.weight, std=0.1)
by_camera = torch.autograd.functional.jacobian(
    lambda g: torch.cat([d.flatten() for d in decoder(channels, g, c).deltas.values()]),
    g,
)
by_codes = torch.autograd.functional.jacobian(
    lambda c: decoder(channels, g, c).attributes["opacities"].flatten(),
    c,
)

# %% tags=["nbval-check-output"]
print("numbers:", DIRECTION, CONDITION, ATTRIBUTES)
print("corrections depend on gamma:", bool(by_camera.any()))
print("opacity depends on the codes:", bool(by_codes.any()))
print("cameras in the clip:", len(clip.viewmat.flatten(1).unique(dim=0)))

# %% [markdown]
# The first line is less than it sounds. In the frame of the skull the head's rotation is part of the camera's direction, and in a clip whose camera stands still it is all of it: whoever knows the codes knows $\gamma$. The paper names
# this leak (Sec. 3.2) and leaves it; only data with several cameras can tell the two apart.

# %% [markdown]
# Last layers of the residual head start at zero, those of the others near it, and what they predict is *added* to where refinement starts: every Gaussian on its texel's surface point, as large as its texel, grey. A new generator is a grey head, for every input:

# %%
from sa0lib.nets import Generator, GeneratorConfig
from sa0lib.train import render_batch

side = max(8, profile.uv_size // 4)
small = dict(dense_channels=32, warped_channels=16, width=0.15, style=64, hidden=32)
sizes = GeneratorConfig("alexnet", side, **small)
generator = Generator(head, sizes)


# %%
def batched(v):
    return v.map(lambda t: t[None])


@torch.no_grad()
def portrait(generator, sources, target):
    """The target as predicted from the sources, on white: [H, W, 3]."""
    prediction = generator(batched(sources), batched(target))
    made = render_batch(generator, prediction, batched(target), torch.ones(1, 3))
    return made[0].permute(1, 2, 0)


less = size // 2  # px: pictures for the small generator
sources = views(clip, chosen, less)
target = views(held_out, [len(held_out) // 2], less).map(lambda t: t[0])
fresh = portrait(generator, sources, target)

# %% [markdown]
# ## 8 · It learns
#
# {ref}`ch-losses` says what training asks for. Here a small generator, on a chart of few texels, trains on this one clip for a moment, by the library's `Trainer` with all terms of Phase 1: sources and target are frames of the clip, backgrounds are random colours. Batches of one sample and a learning rate of `1e-3` are ours, for haste; the paper has 48 and a quarter of that. No optimisation follows when it is asked for
# a frame from the clip's held-out end: one pass. A second one does without the test for visibility.

# %%
from sa0lib.datasets import to_float
from sa0lib.datasets.batches import make_batch
from sa0lib.datasets.samplers import phase_1
from sa0lib.train import TrainConfig, Trainer

steps = profile.generator_steps
plan = phase_1(steps)


def trained(config):
    torch.manual_seed(0)
    trainer = Trainer(Generator(head, config), TrainConfig(steps, lr=1e-3))
    batches = (to_float(make_batch([clip], i, plan, 0, less)) for i in range(steps))
    return trainer.generator, [trainer.step(batch) for batch in batches]


# %%
from dataclasses import replace

with_test, rows = trained(sizes)
without, rows_without = trained(replace(sizes, empty_unseen=False))

# %% tags=["hide-input"] mystnb={"image": {"alt": "PSNR of training batches against the step. Both curves rise with dips; the one with unseen texels emptied ends higher."}, "figure": {"caption": "PSNR of training batches, smoothed over twenty steps, with and without the test for visibility.", "name": "fig-learning"}}
window = min(20, steps)
for name, history in (
    ("unseen texels emptied", rows),
    ("all texels read", rows_without),
):
    psnr = np.convolve([r["psnr"] for r in history], np.ones(window) / window, "valid")
    plt.plot(np.arange(len(psnr)) + window, psnr, label=name)
plt.gca().set(xlabel="step", ylabel="PSNR, dB")
plt.legend()
plt.show()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four portraits on white: a smiling woman with closed eyes; a grey bald head in her pose; a blurred face with dark hair and a smile, its eyes dark smears; the same with specks around eyes and mouth and streaks at the outline."}, "figure": {"caption": "A frame from the clip's held-out end; the generator before training; and after a short one, from the four sources above in one pass.", "name": "fig-learnt"}}
truth = (target.image * target.mask + 1 - target.mask).permute(1, 2, 0)
viz.show_images(
    [
        truth,
        fresh,
        portrait(with_test, sources, target),
        portrait(without, sources, target),
    ],
    ["held-out frame", "before training", "unseen emptied", "all texels read"],
    columns=4,
)

# %% [markdown]
# The person is fixed once sources are encoded; each further frame costs a decoder pass and a rendering. Move through the held-out end of the clip, the truth on the left and the prediction on the right:

# %% tags=["hide-input"]
from sa0lib.metrics import psnr as psnr_of

moments = np.linspace(0, len(held_out) - 1, profile.sweep_frames).astype(int).tolist()
networks = {
    "before training": generator,
    "unseen emptied": with_test,
    "all texels read": without,
}
pairs, scores = [], {name: [] for name in networks}
for i in moments:
    at = views(held_out, [i], less).map(lambda t: t[0])
    truth = (at.image * at.mask + 1 - at.mask).permute(1, 2, 0)
    made = {name: portrait(network, sources, at) for name, network in networks.items()}
    for name, p in made.items():
        scores[name].append(float(psnr_of(p.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None])))
    pairs.append(torch.cat([truth, made["unseen emptied"]], 1))
viz.image_slider(
    pairs,
    [f"frame {int(held_out.timestep[i])}" for i in moments],
    "A held-out frame of the clip beside the generator's prediction of it from four other frames",
    "moment",
    width=512,
)

# %% tags=["hide-input"]
gap = np.array(scores["unseen emptied"]) - np.array(scores["all texels read"])
error = gap.std(ddof=1) / len(gap) ** 0.5
Markdown(
    f"On {len(gap)} held-out frames: {np.mean(scores['before training']):.2f} dB before training, {np.mean(scores['unseen emptied']):.2f} dB with unseen texels emptied, {np.mean(scores['all texels read']):.2f} dB without; paired difference of the last "
    f"two {gap.mean():+.2f} ± {error:.2f} dB (standard error over frames, which follow one another in a film and so say less than their number). Training batches ended at {np.mean([r['psnr'] for r in rows[-window:]]):.1f} dB. Both learn; neither is good yet on "
    "frames that it has not seen, where hair falls otherwise and the face laughs as never before. One clip, one seed: no ranking."
)

# %% [markdown]
# ### Eight people, for the record
#
# `python -m sa0lib.overfit --record overfit` asks more: eight people of the `celeb` world ({ref}`ch-data`), a chart of 128 × 128. A network that cannot learn eight people by heart has a bug.


# %% tags=["hide-input"]
from sa0lib.ledger import read_run


def recorded(name):
    """A recorded run, or None where it has not been made."""
    try:
        return read_run(name)
    except FileNotFoundError:
        return None


overfit, latency = recorded("overfit"), recorded("generator_latency")
text = "Nothing is recorded here yet."
if overfit:
    known, new = (
        np.array(overfit["psnr_training_frames"]),
        np.array(overfit["psnr_new_frames"]),
    )
    run = overfit["provenance"]
    text = (
        f"Recorded with {overfit['generator']['backbone']}, {overfit['training']['steps']:,} steps in {run['minutes']:.0f} minutes on {run['machine']['threads']} threads: **{known.mean():.1f} dB** on "
        f"training frames (worst person {known.mean(1).min():.1f}), **{new.mean():.1f} dB** on frames of the same people that it never saw (worst {new.mean(1).min():.1f})."
    )
Markdown(text)

# %% tags=["hide-input"] mystnb={"image": {"alt": "PSNR of training batches against the step over the recorded run, rising fast at first and then slowly."}, "figure": {"caption": "The recorded run: PSNR of training batches on random backgrounds.", "name": "fig-overfit"}}
if overfit:
    plt.plot(
        [row["step"] for row in overfit["history"]],
        [row["psnr"] for row in overfit["history"]],
    )
    plt.gca().set(xlabel="step", ylabel="PSNR, dB")
    plt.show()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Eight rows of six small portraits on white, one person a row: a training frame and its prediction, and two new frames with theirs. Predictions are softer than the frames and show the same people, expressions and views."}, "figure": {"caption": "One person a row: a training frame and its prediction, then two frames that training never saw, each with its prediction beside it.", "name": "fig-overfit-people"}}
if overfit:
    with Image.open(RUNS / "overfit.webp") as sheet:
        viz.show_images(
            [np.asarray(sheet)],
            ["frame, prediction, frame, prediction, frame, prediction"],
            columns=1,
        )

# %% [markdown]
# ## 9 · What it costs
#
# At the paper's size, counted part by part on PyTorch's *meta* device, where tensors have shapes and no numbers. Operations are those of convolutions and matrix products, a multiplication and an addition counted as two; memory is that of activations alive at one time, for one picture.

# %%
from sa0lib.cost import generator_parts

paper_size = generator_parts(head, GeneratorConfig(), 512)
ours = generator_parts(head, sizes, less)

# %% tags=["hide-input"]
names = {
    p.name: f"{p.parameters / 1e6:.1f} M | {p.operations / 1e9:.0f} G | {p.peak_bytes / 2**20:.0f} MiB"
    for p in paper_size
}
totals = [sum(getattr(p, key) for p in paper_size) for key in ("parameters", "operations")]
rows = [f"| {name} | {numbers} |" for name, numbers in names.items()]
rows.append(f"| **one source, one target** | {totals[0] / 1e6:.1f} M | {totals[1] / 1e9:.0f} G | |")
Markdown(
    "\n".join(
        [
            "| part | parameters | operations | activations |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )
)

# %% tags=["hide-input"]
small_total = sum(p.operations for p in ours)
trainable = totals[0] - paper_size[0].parameters
Markdown(
    f"Backbone and DPT head are paid for each source ({(paper_size[0].operations + paper_size[1].operations) / totals[1]:.0%} of the work for one), the StyleUNet for each person, the decoder for each frame. "
    f"{trainable / 1e6:.0f} million parameters are trained. The generator of section 8 needs {totals[1] / small_total:.0f} times fewer operations."
)

# %% tags=["hide-input"]
text = "No latency is recorded here yet: `python -m tests.benchmarks.generator --record generator_latency`."
if latency:
    machine = latency["provenance"]["machine"]
    where = machine["gpu"] or f"{machine['threads']} threads of a CPU"
    rows = [
        f"| {c['precision']} | {c['sources']} | {c['encode_ms']:,.0f} | {c['decode_ms']:,.0f} |"
        for c in latency["cases"]
    ]
    heads = [
        "| precision | sources | a person, ms | heads for a frame, ms |",
        "| --- | --- | --- | --- |",
    ]
    text = "\n".join(
        [
            f"Medians of a recorded run on {where}, with random weights, which cost the same:\n",
            *heads,
            *rows,
        ]
    )
Markdown(text)

# %% tags=["hide-input"]
text = ""
if latency:
    person = sum(p.operations for p in paper_size[:3]) / 1e9
    took = {c["precision"]: c["encode_ms"] / 1e3 for c in latency["cases"] if c["sources"] == 1}
    limits = [
        f"in {name} {person / took[name]:,.0f} G operations a second, where a product of two large matrices ran at {gops:,.0f}, "
        f"so that {1e3 * person / gops:,.0f} ms is the least that these operations could take there"
        for name, gops in latency["product_gops"].items()
    ]
    text = f"A person from one source is {person:,.0f} G operations: {'; '.join(limits)}."
Markdown(text)

# %% [markdown]
# The paper reports about 50 milliseconds for a single image on an RTX 3090.

# %% [markdown]
# ## What the paper says, what we measured

# %% tags=["hide-input"]
Markdown(
    f"""
| Sec. 3.2, App. A.1 | verdict | here |
| --- | --- | --- |
| a barycentric warp, without parameters | confirmed | the same by hand; says nothing of hidden texels, {100 * wrong.min():.0f} to {100 * wrong.max():.0f} % of the chart |
| the mean over sources is the identity at K = 1 and order-invariant | confirmed | bit for bit, and to rounding |
| $\\mathbf d$ is the third column of world-to-camera | depends on the convention | for matrices on column vectors it is the third row |
| 27 and 112 numbers | confirmed | by construction |
| the residual head is independent of the view | of γ as an input only | its codes hold the head's rotation, from which γ follows where the camera stands still |
| a StyleUNet, its SFT layers modulated by the CLS | read our way | a U-Net gives scale and shift, the CLS token the style |
| about 50 ms for a single image (RTX 3090) | not attempted on that card | {totals[1] / 1e9:,.0f} G operations in 50 ms would be {totals[1] / 0.05 / 1e12:.0f} T a second |
"""
)

# %% [markdown]
# Open in the text, and decided here: all widths; visibility (tested, can be switched off); normalisation layers in the StyleUNet (none, although A.2 speaks of running statistics); where Gaussians start (on the surface, outputs are offsets);
# which blocks of the backbone are tapped (the last four, as GAGAvatar); what is behind the head in a source (white).

# %% [markdown]
# ## Exercises
#
# ```{exercise-start}
# :label: ex-gen-even
# ```
# ● Which of the 27 numbers of $\gamma(\mathbf d)$ stay when the camera goes to the opposite side, $\mathbf d \to -\mathbf d$? What does that say about leaving the bare $\mathbf d$ and the sines out?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gen-even
# :class: dropdown
# ```
# The twelve cosines are even; $\mathbf d$ and the twelve sines are odd. Cosines alone could not tell front from back, nor left from right.

# %%
d = nn.functional.normalize(torch.randn(1, 3), dim=-1)
same = torch.isclose(harmonic(d), harmonic(-d), atol=1e-5)[0]
assert same[15:].all() and not same[:15].any()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-gen-divide
# ```
# ●● Show that the pooled chart, divided by the pooled mask, is the mean over the sources that see a texel, and that without emptying no such division helps.
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gen-divide
# :class: dropdown
# ```
# $\tfrac1K\sum_k m_k x_k \big/ \tfrac1K\sum_k m_k = \sum_k m_k x_k / \sum_k m_k$. Without emptying the sum holds the wrong $x_k$ too, and no factor takes them out again.

# %%
share = mask.mean(0)[0]
some = share > 0
masked = torch.where(mask > 0, charts, torch.nan)
of_those = masked.nanmean(0)[:, some]
assert torch.allclose((kept.mean(0) / share)[:, some], of_those, atol=1e-5)
assert not torch.allclose((charts.mean(0) / share)[:, some], of_those, atol=1e-2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-gen-attention
# ```
# ●● Make the attention pool into the mean without touching the code, and check that both give the same person. Then make it choose: which weights give all the say to the source that sees a texel?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gen-attention
# :class: dropdown
# ```
# Logits that are equal for all sources have a softmax of $1/K$: zero weights do it. A large weight on the last channel, which says "seen", picks the sources that see, and the mean of them where there are several: division by the mask is learnt in one number.

# %%
attentive = Generator(head, replace(sizes, pool="attention"))
attentive.load_state_dict(with_test.state_dict(), strict=False)
with torch.no_grad():
    attentive.attention.weight.zero_()
    both = (g.encode(batched(sources)).features for g in (with_test, attentive))
    mean, attended = both
    assert torch.allclose(mean, attended, atol=1e-4 * float(mean.abs().max()))
weight = (50.0 * mask).softmax(0)  # what a weight of 50 on the last channel gives
assert torch.allclose((weight * kept).sum(0)[:, some], of_those, atol=1e-4)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-gen-roll
# ```
# ●●● Feed the decoder the third *column* instead, and roll the camera. How much do the predicted colours of a trained generator change, and how much with the row?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gen-roll
# :class: dropdown
# ```
# With the row they do not change: the picture turns and the person stays. With the column colours change although nobody moved, and a network trained on hand-held video would learn to read the roll.

# %%
with torch.no_grad():
    person = with_test.encode(batched(sources))
    c = condition(batched(target).params)
    changes = {}
    for name, pick in picks.items():
        gammas = [harmonic(pick(rolled(start, a))[None]) for a in (0.0, 0.5)]
        maps = [with_test.decoder(person.features, g, c).attributes for g in gammas]
        changes[name] = float((maps[1]["colors"] - maps[0]["colors"]).abs().max())
assert changes["third row"] < 1e-3 * changes["third column"]

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Summary
#
# - Features reach the chart by geometry alone; what a source cannot see has to be found out, or the back of the head wears a face.
# - The mean over sources is simple and keeps its promises; with emptied texels it wants a mask channel beside it.
# - A U-Net steers a StyleGAN2 in a space where every eye is in the same place; steering is kept bounded.
# - "Third column" is a third row, depending on who multiplies from which side. A roll of the camera tells.
# - Outputs are offsets from a grey head on the surface; corrections start at zero and never see $\gamma$.
#
# **What to try next.** Train with `empty_unseen=False` on sources that are all from one side. Load DINOv3 if you have it, and look at its principal components in section 2. {ref}`ch-losses` takes the loss apart; {ref}`ch-data` has the people for a longer training.
