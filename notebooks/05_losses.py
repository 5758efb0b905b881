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
# (ch-losses)=
# # 05 · Eight terms of one loss
#
# **Eight terms pull on the generator at once. What does each of them see, and what does it not care about?**
#
# You will learn to
#
# - write the terms of Eq. 2 that have a closed form, in the form of App. A.2, and check them against the library,
# - read a loss by its gradient: which pixels and which texels it moves, and how hard,
# - tell the paper's MS-SSIM from the one that most libraries have,
# - see why smoothness of *local* coordinates is not smoothness of the surface, and what to do about it.
#
# | time | needs |
# | --- | --- |
# | 25 minutes to read, about 1 to run on two CPU cores | {ref}`ch-binding` for texels and triangle frames; gradients; no GPU |

# %% [markdown]
# ## What the paper says
#
# Eq. 2 compares the rendered picture $\hat{\mathbf I}$ with the frame $\mathbf I$ in three ways and once more inside the face's box, asks for
# smooth positions and sizes over the chart, and adds two terms about the network itself:
#
# ```{math}
# :label: eq-objective
# \mathcal L = \lambda_1 \mathcal L_1 + \lambda_\text{ms} \mathcal L_\text{ms} + \lambda_\text{lp} \mathcal L_\text{lp} + \lambda_\text{box} \mathcal L_\text{box}
# + \lambda_\text{ps} \mathcal L_\text{ps} + \lambda_\text{ss} \mathcal L_\text{ss} + \lambda_\text{jac} \mathcal L_\text{jac} + \lambda_\delta \mathcal L_\delta .
# ```
#
# App. A.2 has the forms, and of the weights it has the orders of magnitude: one for the first four, a hundredth for smoothness and shrinkage,
# a tenth for the Jacobian. We take those as they stand.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from torch.nn import functional as F

from sa0lib import viz
from sa0lib.avatar import load_posed_frames, render
from sa0lib.binding import triangle_frames
from sa0lib.datasets import Sequence
from sa0lib.gaussians import Gaussians
from sa0lib.head import load_head
from sa0lib.losses import composite
from sa0lib.paths import DATA
from sa0lib.profile import current_profile
from sa0lib.uv import build_uv_map

viz.setup()
torch.manual_seed(0)
profile = current_profile()
head = load_head()

# %% [markdown]
# ## A pair to compare
#
# A loss needs something wrong to look at. We refine an avatar on six frames of the real clip, as in {ref}`ch-quickstart` but for moments only, and pose it like a
# frame that it has not seen: the person is right, and much is not yet.

# %%
from sa0lib.refine import RefineConfig, Refiner, refine

size = profile.image_size
clip = Sequence(DATA / "clip", "train", size)
seen, frames = load_posed_frames(head, clip, 6), load_posed_frames(head, clip, 5)
config = RefineConfig(profile.quick_iters // 4, size, profile.uv_size, scale_freeze=0)
refiner = Refiner(head, seen, config)
refine(refiner, progress=False)
avatar, uv_map = refiner.gaussians, build_uv_map(head.vt, head.ft, profile.uv_size)
vertices, camera = frames.vertices, frames.cameras
surface = Gaussians.initial(uv_map, vertices[0], head.faces, avatar.colors)


# %%
def on_white(gaussians, i):
    """The avatar, posed and seen as in frame i: [1, 3, H, W], differentiable."""
    posed = triangle_frames(vertices[i : i + 1], head.faces)
    color, alpha, _ = render(gaussians, posed, camera[i])
    return composite(color, alpha, torch.ones(3))


unseen = 2
target = frames.on_white(unseen)
image = on_white(avatar, unseen).detach()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three portraits on white: the real frame of a woman, a blurred avatar of her in the same pose, and the map of their difference, brightest in the hair and at the outline."}, "figure": {"caption": "A frame, a hastily refined avatar in its pose, and the absolute difference, added over channels.", "name": "fig-loss-pair"}}
error = (image - target).abs().sum(1)[0]
shown = [x[0].permute(1, 2, 0) for x in (target, image)] + [error / error.max()]
viz.show_images(shown, ["frame", "avatar", "difference"], columns=3)

# %% [markdown]
# ## 1 · L1: every pixel, one vote
#
# App. A.2 prints $\mathcal L_1 = \tfrac1{HW}\lVert\hat{\mathbf I} - \mathbf I\rVert_1$: channels are added, pixels averaged. Nearly all
# code takes the mean over both, a third of it. That is no error in either, but a weight of one means three times as much here.

# %% tags=["nbval-check-output"]
from sa0lib.losses import l1

by_hand = (image - target).abs().sum(1).mean()
print("as the library:", bool(torch.isclose(by_hand, l1(image, target))))
print(
    "three times the mean:",
    bool(torch.isclose(by_hand, 3 * (image - target).abs().mean())),
)

# %% [markdown]
# Its gradient with respect to a pixel's channel is $\pm 1/(HW)$ wherever the two differ at all: a hair off by a trace pulls as hard as a missing
# ear. That makes L1 robust, and blind to *what* is wrong.

# %% [markdown]
# ## 2 · MS-SSIM: structure at five sizes
#
# SSIM {cite}`wang2004` compares means, variances and covariance in a window around each pixel. Luminance and contrast-structure are
#
# ```{math}
# :label: eq-ssim
# l_\sigma = \frac{2\mu_a\mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1}, \qquad
# cs_\sigma = \frac{2\sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2},
# ```
#
# with Gaussian windows of width $\sigma$. MS-SSIM multiplies over scales. {cite:t}`wang2003` get their scales by halving the picture four times and put
# measured exponents on the factors; that is what library functions of this name compute. The paper writes $\sigma \in \{0.5, 1, 2, 4, 8\}$,
# which is the full-resolution form of {cite:t}`zhao2017`: five windows on the same pixels, every exponent one, luminance of the widest window only.


# %%
from sa0lib.losses import MS_SIGMAS
from sa0lib.metrics import SSIM_C1, SSIM_C2, blur_matrix


def blurred(x, sigma):
    rows, columns = (blur_matrix(n, x.dtype, x.device, sigma) for n in x.shape[-2:])
    return rows @ x @ columns.T


def two_factors(a, b, sigma):
    """Luminance and contrast-structure at every pixel."""
    mean_a, mean_b = blurred(a, sigma), blurred(b, sigma)
    power = mean_a**2 + mean_b**2
    variance = blurred(a * a + b * b, sigma) - power
    covariance = blurred(a * b, sigma) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (power + SSIM_C1)
    return luminance, (2 * covariance + SSIM_C2) / (variance + SSIM_C2)


# %%
scales = [two_factors(image, target, sigma) for sigma in MS_SIGMAS]
product = scales[-1][0]
for _, structure in scales:
    product = product * structure.clamp_min(0)
by_hand = product.mean()

# %% [markdown]
# (A factor below zero, where pictures are anticorrelated, counts as zero. Otherwise two of them would make a likeness.)

# %% tags=["nbval-check-output"]
from sa0lib.losses import ms_ssim

print(
    "as the library within 1e-5:",
    bool((by_hand - ms_ssim(image, target)[0]).abs() < 1e-5),
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five grey maps of the portrait, one for each window width. The narrowest shows fine outlines; with wider windows dark patches spread in the hair, the lower corners, the nostrils and the mouth."}, "figure": {"caption": "Contrast-structure at the five widths; dark is unlike. Fine faults show in narrow windows, missing hair in all of them.", "name": "fig-scales"}}
maps = [structure[0].mean(0).clamp(0, 1) for _, structure in scales]
viz.show_images(maps, [f"σ = {sigma} px" for sigma in MS_SIGMAS], columns=5, width=9.0)

# %% tags=["hide-input"]
deficits = [float((1 - structure).mean()) for _, structure in scales]
whole = float(1 - by_hand)
near = target + 0.003 * torch.randn(target.shape)
near_deficits = [float((1 - two_factors(near, target, sigma)[1]).mean()) for sigma in MS_SIGMAS]
louder = float(1 - ms_ssim(near, target)[0]) / np.mean(near_deficits)
Markdown(
    f"The five deficits $1 - cs_\\sigma$ are {', '.join(f'{d:.2f}' for d in deficits)}; the product's is {whole:.2f}, {whole / np.mean(deficits):.1f} times their "
    "average. The closer two pictures come, the more the product behaves like the *sum* of the deficits: for the frame with a trace of noise it is "
    f"{louder:.1f} times the average. For small errors the term weighs about as much as its factors' deficits added."
)

# %% [markdown]
# Windows are measured in *pixels*. At another resolution the same $\sigma$ looks at another part of the face, so the paper's five belong to its pictures
# of 512 pixels a side. We keep them as they are on every rung.

# %% [markdown]
# ## 3 · LPIPS: what a network notices
#
# LPIPS {cite}`zhang2018` compares features of an ImageNet network, here AlexNet, with weights fitted to human judgements. Its
# gradient is found by a backward pass through that network. It wants pictures in $[-1, 1]$; ours in $[0, 1]$ are mapped inside.

# %% [markdown]
# ## 4 · The box: the face once more
#
# $\mathcal L_\text{box}$ is L1 again, over the face's box with sides $1.65$ times as long. Whose box? The paper writes "EMICA face bbox", but the tracker that it names finds *heads*, and its public code cuts pictures at $1.65$ times that box: on such a
# crop the dilated box is about the whole picture. We try a box of the face and one of the head.

# %%
from sa0lib.losses import box_l1, box_mask

on_face = head.region == head.region_names.index("face")
points, _ = camera[unseen].project(vertices[unseen][on_face])
box = torch.cat([points.amin(0), points.amax(0)])[None]  # x0 y0 x1 y1, px
head_box = frames.face_boxes[unseen : unseen + 1]
masks = [box_mask(b, size, size) for b in (box, head_box)]  # each [1, H, W]
of_face, of_head = (float(m.float().mean()) for m in masks)

# %% tags=["hide-input"] mystnb={"image": {"alt": "The frame with three rectangles: one around the face, a slightly larger one around the head, and the face's box after dilation, which reaches beyond all four sides of the picture."}, "figure": {"caption": "The face's box, the tracker's box of the head, and what dilation makes of the face's: more than the picture.", "name": "fig-box"}}
center, half = (box[0, :2] + box[0, 2:]) / 2, (box[0, 2:] - box[0, :2]) / 2
outlines = {
    "face": box[0],
    "head": head_box[0],
    "face, dilated": torch.cat([center - 1.65 * half, center + 1.65 * half]),
}
_, axis = plt.subplots(figsize=(4.2, 4.2))
axis.imshow(target[0].permute(1, 2, 0))
axis.plot([0, size, size, 0, 0], [0, 0, size, size, 0], color="0.6", linewidth=0.8)
for (name, (x0, y0, x1, y1)), color, style in zip(outlines.items(), viz.COLORS, viz.LINE_STYLES, strict=False):
    axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], style, color=color, label=name)
axis.axis("off")
axis.autoscale_view()
axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=9)
plt.show()

# %% tags=["hide-input"]
Markdown(
    f"Dilated, the face's box covers {100 * of_face:.0f} % of this picture, the head's {100 * of_head:.0f} %. Once a centred box fills $1/1.65$ of both sides, it is the "
    "picture, and the term a second L1. In a looser crop it does what it is for: a pixel outside weighs $1/HW$, one inside $1/HW + 1/|\\text{box}|$."
)

# %% [markdown]
# To see it at work all the same, the rest of the chapter uses the box that becomes the face's own by dilation.

# %%
box = torch.cat([center - half / 1.65, center + half / 1.65])[None]
inside = box_mask(box, size, size)  # [1, H, W]
share = float(inside.float().mean())

# %% [markdown]
# **Check.** The same by hand, and the limit: a box over the whole picture gives plain L1.

# %% tags=["nbval-check-output"]
by_hand = (image - target).abs().sum(1)[inside].mean()
everything = torch.tensor([[0.0, 0, size, size]])
print("by hand:", bool(torch.isclose(by_hand, box_l1(image, target, box))))
print(
    "box over all is L1:",
    bool(torch.isclose(box_l1(image, target, everything), l1(image, target))),
)

# %% [markdown]
# ### Four pictures of a gradient
#
# What does each term ask of the picture? The derivative with respect to every pixel says so.

# %%
from sa0lib.metrics import lpips

photometric = {
    "L1": lambda x: l1(x, target),
    "1 − MS-SSIM": lambda x: 1 - ms_ssim(x, target).mean(),
    "LPIPS": lambda x: lpips(x, target).mean(),
    "box": lambda x: box_l1(x, target, box),
}
pulls = {}
for name, term in photometric.items():
    x = image.clone().requires_grad_()
    (pulls[name],) = torch.autograd.grad(term(x), x)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four maps of the portrait. L1: flat over the whole person. MS-SSIM: fine grain over forehead, cheeks and chin, nearly black in the hair and the mouth, where the avatar is most wrong. LPIPS: grain in soft patches over face and hair. Box: flat inside a rectangle."}, "figure": {"caption": "Size of the gradient of each photometric term at every pixel, each map scaled to its own 99th percentile.", "name": "fig-pixel-gradients"}}
sizes = [pull.abs().sum(1)[0] for pull in pulls.values()]
viz.show_images(
    [(s / s.quantile(0.99)).clamp(0, 1) for s in sizes],
    list(pulls),
    columns=4,
    width=9.0,
)

# %% tags=["hide-input"]
rows = []
for (name, pull), field in zip(pulls.items(), sizes, strict=True):
    top = field.flatten().sort(descending=True).values
    half = int((top.cumsum(0) < top.sum() / 2).sum())
    rows.append(
        f"| {name} | {float(photometric[name](image)):.3f} | {float(pull.norm()):.4f} | {100 * half / top.numel():.0f} % |"
    )
table = "\n".join(
    [
        "| term | value | length of its gradient | pixels that hold half of its absolute sum |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
)
Markdown(table)

# %% tags=["hide-input"]
dead = float((torch.stack([structure for _, structure in scales]).amin(0) <= 0).float().mean())
Markdown(
    f"MS-SSIM is dark where the avatar is *most* wrong. At {100 * dead:.0f} % of pixels and channels some factor is zero or below, and a product with a zero in it passes no gradient on; around them it is small. The term "
    "refines what is nearly right and says little about what is missing. L1 and LPIPS have to bring it there."
)

# %% [markdown]
# ### What each term notices
#
# Now spoil the frame itself, in one way at a time and more and more, and ask each term. The slider chooses the fault.


# %%
def shifted(x, amount):
    grid = F.affine_grid(torch.eye(2, 3)[None], x.shape, align_corners=False)
    grid[..., 0] += 2 * amount * 4 / size  # up to four pixels
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


noise = torch.randn(target.shape)
backdrop = 1 - frames.target(unseen)[1]  # white is left white
faults = {
    "shift by up to 4 px": shifted,
    "blur by up to 3 px": lambda x, a: blurred(x, 0.3 + 2.7 * a) if a else x,
    "darker by up to a fifth": lambda x, a: x - 0.2 * a * (x - backdrop),
    "noise of up to 0.1": lambda x, amount: x + 0.1 * amount * noise,
}
amounts = np.linspace(0, 1, 6)
curves = {}
with torch.no_grad():
    for fault, spoil in faults.items():
        spoilt = [spoil(target, a) for a in amounts]
        curves[fault] = {n: [float(term(x)) for x in spoilt] for n, term in photometric.items()}

# %% tags=["hide-input"]


def lines(fault):
    styles = zip(curves[fault].items(), viz.DASHES, strict=True)
    return [go.Scatter(x=amounts, y=ys, name=n, mode="lines+markers", line=dict(dash=d)) for (n, ys), d in styles]


figure = go.Figure(
    lines(next(iter(faults))),
    frames=[go.Frame(data=lines(f), name=f) for f in faults],
)
figure.update_yaxes(
    title="value of the term",
    range=[0, 1.05 * max(max(ys) for c in curves.values() for ys in c.values())],
)
figure.update_xaxes(title="strength of the fault, as a share of the largest")
figure.update_layout(sliders=[viz.frame_slider(list(faults), "fault")])
viz.interactive(
    figure,
    "Values of the four photometric terms as the frame is shifted, blurred, darkened or made noisy; the terms rank the faults differently",
)

# %% tags=["hide-input"]
strongest = {fault: {n: ys[-1] for n, ys in c.items()} for fault, c in curves.items()}
rows = [f"| {fault} | " + " | ".join(f"{v:.3f}" for v in values.values()) + " |" for fault, values in strongest.items()]
Markdown(
    "\n".join(
        [
            "| at full strength | " + " | ".join(photometric) + " |",
            "| --- " * 5 + "|",
            *rows,
        ]
    )
)

# %% [markdown]
# Read the table by columns. L1 takes all four faults about equally seriously. MS-SSIM punishes noise and shifts before blur, and hardly minds darkness; LPIPS minds noise and blur, and lets a shift of a few pixels pass. That is the case for having all of
# them, and it is a case about *kinds* of error, not about amounts.

# %% [markdown]
# ## 5 · Smooth over the chart
#
# Positions and log-scales should change little from texel to texel: total variation {cite}`rudin1992`, with forward differences in both directions,
# added over $\Omega$ and divided by $|\Omega|$. A difference counts where both of its texels are valid.


# %%
def tv_by_hand(values, valid):
    """One texel after another."""
    total, N = 0.0, len(valid)
    for i in range(N):
        for j in range(N):
            for i2, j2 in ((i, j + 1), (i + 1, j)):
                if max(i2, j2) < N and valid[i, j] and valid[i2, j2]:
                    total += (values[:, i2, j2] - values[:, i, j]).abs().sum()
    return total / valid.sum()


# %% tags=["nbval-check-output"]
from sa0lib.generator_losses import uv_tv

small = build_uv_map(head.vt, head.ft, 16)
field = torch.randn(3, 16, 16)
by_hand, ours = tv_by_hand(field, small.valid), uv_tv(field[None], small.valid)
print("by hand:", bool(torch.isclose(by_hand, ours)))

# %% [markdown]
# ### Smooth in which coordinates?
#
# The paper takes the TV of $\mathbf x^\text{local}$, the position in the frame of the texel's own triangle. Look at what that is on a *perfect* avatar,
# where every Gaussian sits exactly on the surface and is exactly as large as its texel:

# %%
valid = uv_map.valid


def as_maps(values):
    """Values of the texels [G, C] as maps [1, C, N, N]."""
    return uv_map.scatter(values).permute(2, 0, 1)[None]


absolute = {name: as_maps(getattr(surface, name)) for name in ("means", "log_scales")}
triangle = uv_map.scatter(uv_map.face[:, None].float())[..., 0]
right, down = (triangle[:, 1:] != triangle[:, :-1]), (triangle[1:] != triangle[:-1])
edges = (right & valid[:, 1:] & valid[:, :-1], down & valid[1:] & valid[:-1])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two charts of the head. Left, the local x coordinate of a perfect surface: every triangle is a small ramp of its own, so that the chart looks like a mosaic of tiles. Right, the jumps between neighbouring texels: dark within triangles and bright along all of their edges."}, "figure": {"caption": "Left, the first local coordinate of Gaussians that sit exactly on the surface. Right, its steps from texel to texel: the triangle mesh, not the face.", "name": "fig-mosaic"}}
x = torch.where(valid, absolute["means"][0, 0], torch.nan)
step = torch.where(
    valid[:, 1:] & valid[:, :-1],
    absolute["means"][0].diff(dim=2).abs().sum(0),
    torch.nan,
)
_, axes = plt.subplots(1, 2, figsize=(9, 4.2))
for axis, (field, label, look) in zip(
    axes,
    (
        (x, "x, in units of s_f", viz.DIVERGING),
        (step, "step to the right", viz.SEQUENTIAL),
    ),
    strict=True,
):
    limit = float(field.nan_to_num().abs().quantile(0.98))
    shown = axis.imshow(field, cmap=look, vmax=limit, vmin=-limit if look == viz.DIVERGING else 0)
    plt.colorbar(shown, ax=axis, label=label, shrink=0.8)
    axis.axis("off")
plt.show()

# %%
from sa0lib.uv import seam_pairs, texel_pairs

tv = {name: float(uv_tv(maps, valid)) for name, maps in absolute.items()}
pairs = texel_pairs(valid)
crossing = float((edges[0].sum() + edges[1].sum()) / (pairs[0].sum() + pairs[1].sum()))
at_edges = {n: float(uv_tv(maps, valid, edges)) / tv[n] for n, maps in absolute.items()}

# %% tags=["hide-input"]
Markdown(
    f"A perfect surface has $\\mathcal L_\\text{{ps}}$ = {tv['means']:.2f} and $\\mathcal L_\\text{{ss}}$ = {tv['log_scales']:.2f}, far from zero, and "
    f"{100 * at_edges['means']:.0f} % and {100 * at_edges['log_scales']:.0f} % of that comes from the {100 * crossing:.0f} % of pairs that lie on two triangles. There the coordinates *must* jump: each "
    "triangle has an origin, axes and a unit of its own. Taken at its word, the term pulls a perfect surface apart."
)

# %% [markdown]
# The paper does not say that its network predicts absolute local positions; it says that heads predict "local position". `sa0lib` takes the TV of the
# *offset* from where a texel's Gaussian starts (its point of the surface, its size there). Then a perfect surface costs nothing. That mends the
# start and no more: an offset that is smooth in space is still measured in each triangle's own axes and unit.

# %%
posed = triangle_frames(vertices[:1], head.faces)
corners = vertices[0][head.faces]
normal = torch.nn.functional.normalize(
    torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]),
    dim=-1,
)
scale, R = posed.scale[0, uv_map.face], posed.R[0, uv_map.face]
pushes = {
    "2 mm outwards": 2e-3 * normal[uv_map.face],
    "2 mm to the person's left": torch.tensor([2e-3, 0, 0]).expand(len(uv_map), 3),
}
rests = {}
for name, push in pushes.items():
    offset = torch.einsum("gji,gj->gi", R, push) / scale[:, None]  # world to local
    rests[name] = float(uv_tv(as_maps(offset), valid))

# %% tags=["hide-input"]
rows = [f"| {name} | {rest:.3f} | {100 * rest / tv['means']:.0f} % |" for name, rest in rests.items()]
Markdown(
    "\n".join(
        [
            "| smooth offset in space | its TV | of the perfect surface's absolute TV |",
            "| --- | --- | --- |",
            *rows,
        ]
    )
)

# %% [markdown]
# Along the normal, an axis that all frames share, offsets stay cheap. Along the surface they do not, because neighbouring triangles lay their first edge this way and that.
# The term as printed pulls such motions back, right ones as well as wrong ones; the last exercise builds one that does not.

# %% [markdown]
# ### Seams
#
# Where the chart is cut, neighbours on it are no neighbours on the head, and App. A.2 admits "unintended smoothing across the seam", calling its share small. On
# OpenHead's chart, which keeps its islands apart, we can count the pairs:

# %%
rows, seams = [], {}
for n in (side for side in (32, 64, 128, 256) if side <= profile.uv_size):
    chart = build_uv_map(head.vt, head.ft, n)
    pairs = sum(int(p.sum()) for p in texel_pairs(chart.valid))
    across = seam_pairs(chart, head.vt, head.ft, head.faces)
    seams[n] = sum(int(p.sum()) for p in across)
    rows.append(f"| {n} × {n} | {pairs:,} | {seams[n]} |")

# %% tags=["hide-input"]
Markdown(
    "\n".join(
        [
            "| chart | pairs of neighbours | across a seam |",
            "| --- | --- | --- |",
            *rows,
        ]
    )
)

# %% [markdown]
# With stock FLAME's chart the same function gives that chart's share.

# %% [markdown]
# ## 6 · Two terms about the network
#
# $\mathcal L_\delta$ shrinks what the residual head adds: the L1 norm of its corrections, over four attributes, divided by $|\Omega|$. The head starts at zero, where the
# slope of an absolute value is taken as zero, so it feels no pull before it moves. Phase 1 does without. $\mathcal L_\text{jac}$ is {ref}`ch-jacobian`'s.

# %% tags=["nbval-check-output"]
from sa0lib.generator_losses import RESIDUALS, residual_shrinkage

channels = {"means": 3, "quats": 4, "log_scales": 3, "colors": 3}
deltas = {name: torch.randn(1, channels[name], 16, 16) for name in RESIDUALS}
total = sum(d[0][:, small.valid].abs().sum() for d in deltas.values())
by_hand = total / small.valid.sum()
print(
    "by hand:",
    bool(torch.isclose(by_hand, residual_shrinkage(deltas, small.valid))),
)
still = {name: torch.zeros_like(d).requires_grad_() for name, d in deltas.items()}
residual_shrinkage(still, small.valid).backward()
print("pull at zero:", max(float(d.grad.abs().max()) for d in still.values()))

# %% [markdown]
# ## 7 · All at once
#
# The library's objective is the weighted sum, and returns its terms under the names of `GeneratorWeights`. To see who pulls hardest we make the avatar's
# offsets and colours free, disturb them a little, and take the gradient of each weighted term by itself.

# %%
from dataclasses import replace

from sa0lib.generator_losses import PHASE_1, generator_loss

names = ("means", "log_scales", "colors")
free = {n: (0.02 * torch.randn(1, 3, *valid.shape)).requires_grad_() for n in names}


def rendered(offsets):
    at = {n: maps[0, :, uv_map.row, uv_map.col].T for n, maps in offsets.items()}
    moved = replace(
        avatar,
        means=avatar.means + at["means"],
        log_scales=avatar.log_scales + at["log_scales"],
        color_logits=avatar.color_logits + at["colors"],
    )
    return on_white(moved, unseen)


# %%
def objective(weights):
    return generator_loss(
        rendered(free),
        target,
        box,
        free["means"],
        free["log_scales"],
        {},
        valid,
        None,
        weights,
    )


total, terms = objective(PHASE_1)
weighted = {name: getattr(PHASE_1, name) * float(v) for name, v in terms.items()}

# %% tags=["nbval-check-output"]
print(
    "the sum of its weighted terms within 1e-5:",
    abs(float(total.detach()) - sum(weighted.values())) < 1e-5,
)
print(list(terms))

# %%
nothing = replace(PHASE_1, **{name: 0.0 for name in vars(PHASE_1)})
strength = {}
for name in terms:
    alone, _ = objective(replace(nothing, **{name: getattr(PHASE_1, name)}))
    slopes = torch.autograd.grad(alone, list(free.values()), allow_unused=True)
    strength[name] = [0.0 if s is None else float(s.norm()) for s in slopes]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Grouped bars on a logarithmic axis: for positions, log-scales and colours, the length of the gradient of each weighted term. The four photometric terms are within a factor of a few of one another on each attribute; smoothness acts on its own attribute alone and is two orders of magnitude weaker."}, "figure": {"caption": "How hard each weighted term pulls on the avatar's maps, with the weights of Phase 1. Smoothness acts on its own attribute only.", "name": "fig-strength"}}
_, axis = plt.subplots(figsize=(8, 3.8))
for i, (name, values) in enumerate(strength.items()):
    axis.bar(
        np.arange(3) + 0.13 * (i - 2.5),
        values,
        0.12,
        label=name,
        color=viz.COLORS[i],
        edgecolor="black",
        linewidth=0.4,
    )
axis.set(
    xticks=range(3),
    xticklabels=["positions", "log-scales", "colours"],
    yscale="log",
    ylabel="length of the gradient",
)
axis.set_ylim(bottom=min(v for values in strength.values() for v in values if v) / 3)
axis.legend(ncols=3, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 1.25))
plt.show()

# %% tags=["hide-input"]
weakest = min(
    min(strength[name][0] for name in ("l1", "ms_ssim", "lpips", "box")) / strength["position_tv"][0],
    min(strength[name][1] for name in ("l1", "ms_ssim", "lpips", "box")) / strength["scale_tv"][1],
)
Markdown(
    f"Smoothness pulls at least {weakest:.0f} times less than the weakest photometric term on its attribute. It counts the signs of steps and not their size, so the pull is the same for any disturbance, large or small."
)

# %% [markdown]
# On the chart the gradients have places, too: photometric terms move mostly what the camera sees, smoothness moves all of it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six charts of the head. The gradient of L1 with respect to colours covers face and neck; of LPIPS with respect to colours, in patches; of MS-SSIM with respect to positions it is brightest on the forehead and brows, with patches on the crown and at the ears. Both smoothness terms cover the whole chart with even noise, and shrinkage is flat."}, "figure": {"caption": "Where on the chart the terms pull. Each map is scaled to its own 99th percentile; white is no surface.", "name": "fig-chart-gradients"}}
chosen = {
    "L1 on colours": ("l1", "colors"),
    "LPIPS on colours": ("lpips", "colors"),
    "MS-SSIM on positions": ("ms_ssim", "means"),
    "smoothness on positions": ("position_tv", "means"),
    "smoothness on log-scales": ("scale_tv", "log_scales"),
}
slopes = []
for name, attribute in chosen.values():
    alone, _ = objective(replace(nothing, **{name: 1.0}))
    slopes += torch.autograd.grad(alone, free[attribute])
slopes += torch.autograd.grad(residual_shrinkage({"means": free["means"]}, valid), free["means"])
fields = [slope.norm(dim=1)[0] for slope in slopes]
charts = [torch.where(valid, (f / f[valid].quantile(0.99)).clamp(0, 1), 1.0) for f in fields]
viz.show_images(charts, [*chosen, "shrinkage of corrections"], columns=3)

# %% [markdown]
# The eighth term has its picture in {ref}`ch-jacobian`: {numref}`fig-leaning` shows what it punishes, texel by texel.

# %% [markdown]
# ## What the paper says, what we measured

# %% tags=["hide-input"]
moved = strongest["shift by up to 4 px"]
Markdown(
    f"""
| App. A.2 | verdict | here |
| --- | --- | --- |
| $\\mathcal L_1$ divides by $HW$ | as printed | three times the usual mean |
| MS-SSIM over five $\\sigma$ | a choice | full resolution, exponents one; {whole / np.mean(deficits):.1f} to {louder:.1f} times the average deficit of its scales |
| the box adds weight to the face | in loose crops | dilated, it covers {100 * of_face:.0f} % of this one; a box of the face alone would weigh it {1 + 1 / share:.1f}-fold |
| TV on local position and log-scale is surface smoothness | contradicted | absolute: {100 * at_edges["means"]:.0f} % and {100 * at_edges["log_scales"]:.0f} % of a perfect surface's TV are triangle edges; offsets mend the start only, a shift sideways still costs {100 * rests["2 mm to the person's left"] / tv["means"]:.0f} % of that |
| the seams' contribution is small | not attempted for FLAME's chart | OpenHead's keeps its islands apart: {seams[max(seams)]} pairs at {max(seams)} texels a side |
| a trio of photometric terms | they rank the faults differently | a shift of four pixels: L1 {moved["L1"]:.2f}, MS-SSIM {moved["1 − MS-SSIM"]:.2f}, LPIPS {moved["LPIPS"]:.2f} |
"""
)

# %% [markdown]
# Open in the text, and decided here: exact weights (the printed orders of magnitude, as they are); which form of MS-SSIM; border handling of its windows (reflected);
# what a box does that leaves the picture (it is cut); TV of absolute positions or of offsets (offsets).

# %% [markdown]
# ## Exercises
#
# ```{exercise-start}
# :label: ex-loss-flat
# ```
# ● Two flat grey pictures have values $a$ and $b$. What is their MS-SSIM? Which pairs are nearly alike for it although L1 calls them different?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-loss-flat
# :class: dropdown
# ```
# All variances vanish, so every contrast-structure factor is $C_2/C_2 = 1$, and what is left is luminance, $(2ab + C_1)/(a^2 + b^2 + C_1)$. It depends on the *ratio*: $0.8$
# and $0.9$ are alike to one in a hundred, while $0.1$ and $0.2$, just as far apart, are not.

# %%
for a, b in ((0.8, 0.9), (0.1, 0.2)):
    flat = [torch.full((1, 3, 32, 32), v, dtype=torch.float64) for v in (a, b)]
    expected = (2 * a * b + SSIM_C1) / (a * a + b * b + SSIM_C1)
    assert abs(float(ms_ssim(*flat)) - expected) < 1e-9
    assert (expected > 0.99) == (a == 0.8)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-loss-edge
# ```
# ● Total variation is said to keep edges. Compare a smooth ramp from 0 to 1 with a single jump from 0 to 1: their TV, and the sum of *squared* differences.
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-loss-edge
# :class: dropdown
# ```
# Absolute differences of a monotone line add up to its rise, however it is spread: TV has no preference. Squares prefer the ramp, by as many times as it has steps.

# %%
everywhere = torch.ones(16, 16, dtype=torch.bool)
ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
jump = (ramp > 0.5).float()
assert torch.isclose(uv_tv(ramp, everywhere), uv_tv(jump, everywhere))
steep, gentle = (x.diff(dim=3).square().sum() for x in (jump, ramp))
assert torch.isclose(steep, 15 * gentle)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-loss-resolution
# ```
# ●● The same smooth field, on a chart of 64 and of 128 texels a side: what happens to $\mathcal L_\text{ps}$, and what does that mean for its weight?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-loss-resolution
# :class: dropdown
# ```
# Steps are half as large; the sum over texels has four times as many, and $|\Omega|$ grows by four, too. So the term halves: a weight is tied to the size of the chart it was
# tuned on, and the same pull on a chart of half the side wants half the weight.

# %%
values = []
for n in (64, 128):
    chart = build_uv_map(head.vt, head.ft, n)
    u = (torch.arange(n) + 0.5) / n
    values.append(uv_tv(torch.sin(4 * u[:, None] + 3 * u)[None, None], chart.valid))
assert abs(float(values[0] / values[1]) - 2) < 0.1

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-loss-surface
# ```
# ●●● Build a smoothness term that a smooth offset in *space* does not feel: carry each texel's offset to the world before differences are taken, and divide by one length for the whole
# head. Show that moving all Gaussians by one vector costs nothing, and that noise costs as much as before.
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-loss-surface
# :class: dropdown
# ```
# In the world $s_f R_f\,\Delta^\text{local}$ has the same axes and unit for all texels. Dividing by the average $s_f$ makes numbers comparable with the local form.


# %%
def world_tv(offset):  # [G, 3], local
    world = torch.einsum("gij,gj->gi", R, offset) * scale[:, None] / scale.mean()
    return uv_tv(as_maps(world), valid)


push = torch.tensor([2e-3, 0, 0]).expand(len(uv_map), 3)
local = torch.einsum("gji,gj->gi", R, push) / scale[:, None]
noisy = torch.randn(len(uv_map), 3)
plain = uv_tv(as_maps(noisy), valid)
assert world_tv(local) < 0.01 * uv_tv(as_maps(local), valid)
assert 0.5 < float(world_tv(noisy) / plain) < 2

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Summary
#
# - Four terms look at pictures, each at another kind of fault; their gradients show where.
# - As printed, L1 adds channels, and MS-SSIM works at full resolution with five windows in pixels: neither is the default of common libraries.
# - The box makes a pixel of the face count more, by a factor that depends on the crop.
# - Total variation of absolute local coordinates measures the mesh's triangles. Offsets make the start free; a motion along the surface is still charged
#   for the triangles' axes.
# - Shrinkage has no pull on a head that starts at zero; weights of chart terms belong to one size of chart.
#
# **What to try next.** Change one weight by ten and train the generator of {ref}`ch-generator` with it. In `Trainer.step` add `start_means`, scattered on the chart, to the
# positions handed to `generator_loss`, and look at the edges of triangles in the result.
# {ref}`ch-jacobian` takes up the term that was left out.
