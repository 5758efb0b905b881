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
# (ch-splatting)=
# # 02 · Splatting from scratch
#
# **How does a cloud of soft ellipsoids become a picture, and how does the picture tell each ellipsoid how to change?**
#
# You will learn to
#
# - build a 3D Gaussian from a rotation and three scales, and see it through a camera as an ellipse,
# - blend ellipses front to back, with an opacity that does not depend on their order,
# - write a renderer in fifteen lines, and recognise it in the three backends of `sa0lib.rasterize`,
# - check projection, blending and gradients in numbers.
#
# | time | needs |
# | --- | --- |
# | 25 minutes to read, about 1 to run on two CPU cores | some linear algebra; {doc}`../book/notation` for the conventions; no GPU |

# %% [markdown]
# ## What the paper says
#
# The paper rasterizes its Gaussians "through a differentiable 3DGS splatter" (Sec. 3.2) and refers to
# {cite:t}`kerbl2023` for how. It writes down two pieces itself: the accumulated opacity of a pixel (Eq. 12), and the
# projected covariance on which its anti-needle penalty acts (App. A.4). The idea of splatting projected Gaussians is
# older {cite}`zwicker2001`, and so is the blending {cite}`porter1984,max1995`.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import torch

from sa0lib import viz
from sa0lib.profile import current_profile

torch.manual_seed(0)
viz.setup()
profile = current_profile()

# %% [markdown]
# ## 1 · One Gaussian in space
#
# A Gaussian has a centre $\mu$, and a covariance that a rotation $R$ (from a unit quaternion) and three standard
# deviations $s$ make:
#
# ```{math}
# :label: eq-covariance
# \Sigma = R\,\mathrm{diag}(s)^2\,R^\top .
# ```
#
# Written this way it is positive semi-definite whatever the optimiser does to $q$ and $s$, which is why nobody
# optimises the six numbers of $\Sigma$ directly.

# %%
from sa0lib.rotation import normalize, quaternion_to_matrix

q = normalize(torch.tensor([0.9, 0.1, 0.4, 0.2]))
s = torch.tensor([0.06, 0.02, 0.01])
mu = torch.tensor([0.02, -0.01, 0.8])
R = quaternion_to_matrix(q)
Sigma = R @ torch.diag(s**2) @ R.T

# %% [markdown]
# **Check.** If {eq}`eq-covariance` is right, points drawn as $\mu + R\,(s \odot z)$ with standard normal $z$ have this
# covariance. With $n$ points the estimate is off by about $1/\sqrt n$; the bound is four times that.

# %% tags=["nbval-check-output"]
n = 200_000
points = mu + (torch.randn(n, 3) * s) @ R.T
error = (torch.cov(points.T) - Sigma).norm() / Sigma.norm()
print("sampled covariance agrees:", bool(error < 4 / n**0.5))

# %% [markdown]
# ## 2 · Through the camera
#
# A pinhole camera maps $(x, y, z)$ to $(f_x x/z + c_x,\; f_y y/z + c_y)$. That map is not linear, so the image of a
# Gaussian is not a Gaussian. Splatting replaces the map near the centre by its first-order Taylor expansion, with the
# Jacobian
#
# ```{math}
# :label: eq-jacobian
# J = \begin{pmatrix} f_x/z & 0 & -f_x x/z^2 \\ 0 & f_y/z & -f_y y/z^2 \end{pmatrix},
# \qquad
# \Sigma^{2D} = J\,W\,\Sigma\,W^\top J^\top ,
# ```
#
# where $W$ is the rotation of the world-to-camera matrix. A linear map of a Gaussian *is* a Gaussian.

# %%
from sa0lib.camera import Camera, intrinsics

camera = Camera(intrinsics(300.0, 128, 128), torch.eye(4), 128, 128)


def jacobian(point, K):
    x, y, z = point
    fx, fy = K[0, 0], K[1, 1]
    return torch.stack([torch.stack([fx / z, 0 * z, -fx * x / z**2]), torch.stack([0 * z, fy / z, -fy * y / z**2])])


J = jacobian(mu, camera.K)
Sigma2d = J @ Sigma @ J.T  # W is the identity here

# %% [markdown]
# **Check.** The written Jacobian against the one that automatic differentiation finds, in float32.

# %% tags=["nbval-check-output"]
automatic = torch.autograd.functional.jacobian(lambda p: camera.project(p)[0], mu)
print("J agrees with autograd:", bool(torch.allclose(J, automatic, rtol=1e-5)))

# %% [markdown]
# How good is the linear picture? Project the sampled points themselves and compare covariances, for Gaussians from
# tiny to as large as their distance. Splats on a head are millimetres at arm's length, far to the left of this plot.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Log-log curve: the relative error of the projected covariance falls with the square of the Gaussian's size and reaches the sampling noise well before head-sized splats."}, "figure": {"caption": "Error of the linear projection against the largest standard deviation over the distance. Dotted: what sampling alone gives. Shaded: splats of an avatar.", "name": "fig-linear"}}
sizes, errors, noise = np.geomspace(0.002, 0.3, 14), [], 2 / n**0.5
for size in sizes:
    scaled = s / s.max() * size * mu[2]
    cloud = mu + (torch.randn(n, 3) * scaled) @ R.T
    cloud = cloud[cloud[:, 2] > 0.1]
    linear = J @ R @ torch.diag(scaled**2) @ R.T @ J.T
    errors.append(float((torch.cov(camera.project(cloud)[0].T) - linear).norm() / linear.norm()))
plt.loglog(sizes, errors, "o-")
plt.axhline(noise, color="black", linestyle=":")
plt.axvspan(0.001, 0.004, alpha=0.2)
plt.gca().set(xlabel="size / distance", ylabel="relative error of covariance", xlim=(0.0018, 0.35))
plt.show()

# %% [markdown]
# ## 3 · One pixel
#
# At a pixel centre $u$, splat $i$ has alpha $\alpha_i = o_i \exp(-\tfrac12 d^\top (\Sigma_i^{2D})^{-1} d)$ with
# $d = u - \mu_i^{2D}$. Splats are taken front to back; each covers its share of the light that is left:
#
# ```{math}
# :label: eq-composite
# C = \sum_i c_i\,\alpha_i \prod_{j<i} (1-\alpha_j), \qquad
# \hat\alpha = 1 - \prod_i (1-\alpha_i) .
# ```
#
# The second is the paper's Eq. (12). A product does not care about order, so opacity needs no sorting; colour does.


# %%
def blend(alphas, colors):
    left, color = 1.0, torch.zeros(3, dtype=alphas.dtype)
    for alpha, c in zip(alphas, colors, strict=True):
        color = color + left * alpha * c
        left = left * (1 - alpha)
    return color, 1 - left


alphas, colors = torch.rand(8).double() * 0.6, torch.rand(8, 3).double()
color, alpha = blend(alphas, colors)

# %% [markdown]
# **Check.** Shuffle the splats: opacity stays to float64's last digits, colour does not.

# %% tags=["nbval-check-output"]
shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(1))
other_color, other_alpha = blend(alphas[shuffled], colors[shuffled])
print("opacity ignores the order:", bool((alpha - other_alpha).abs() < 1e-15))
print("colour ignores the order: ", bool((color - other_color).abs().max() < 1e-3))

# %% [markdown]
# ## 4 · The smallest renderer
#
# Both sections together, for all pixels at once. Three constants come from the reference implementation of 3DGS and
# matter for comparing anything: a blur of $0.3$ px² added to the diagonal, so that no splat falls between pixels; a cap
# of $0.999$ on alpha; and everything under 1/255 is dropped.


# %%
def splat(means, quats, scales, opacities, colors, camera):
    xy, depth = camera.project(means)
    M = quaternion_to_matrix(quats) * scales[:, None]  # [N, 3, 3]
    W = camera.viewmat[:3, :3]
    in_camera = means @ W.T + camera.viewmat[:3, 3]
    J = torch.stack([jacobian(p, camera.K) for p in in_camera])  # [N, 2, 3]
    covars = J @ W @ M @ (J @ W @ M).mT + 0.3 * torch.eye(2)
    rows, cols = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    d = torch.stack([cols, rows], -1)[:, :, None] + 0.5 - xy  # [H, W, N, 2]
    power = torch.einsum("hwni,nij,hwnj->hwn", d, torch.linalg.inv(covars), d)
    alpha = (opacities * torch.exp(-0.5 * power)).clamp(max=0.999)
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)[:, :, depth.argsort()]  # front to back
    left = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(left[..., :1]), left[..., :-1]], -1)
    return (alpha * before) @ colors[depth.argsort()], 1 - left[..., -1]


# %% [markdown]
# A scene to draw: random ellipsoids inside a ball.

# %%
from sa0lib.camera import orbit

N, size = profile.n_gaussians_demo, profile.demo_size
means = 0.1 * normalize(torch.randn(N, 3)) * torch.rand(N, 1) ** (1 / 3)
quats, scales = torch.randn(N, 4), torch.rand(N, 3) * 0.012 + 0.002
opacities, colors = torch.rand(N) * 0.8 + 0.1, torch.rand(N, 3)
camera = Camera(intrinsics(2.0 * size, size, size), orbit(0.4, 0.2, 0.5, torch.zeros(3)), size, size)
with torch.no_grad():
    small, small_alpha = splat(means, quats, scales, opacities, colors, camera)

# %% [markdown]
# ## 5 · The same from `sa0lib`
#
# One function with gsplat's arguments {cite}`ye2025` and three backends: `reference`, which is the cell above with
# the loops of a real renderer; `cpu`, compiled, tiled, with an analytic backward pass; `cuda`, which is gsplat itself.

# %%
from sa0lib.rasterize import rasterization

scene = (means, quats, scales, opacities, colors, camera.viewmat[None], camera.K[None], size, size)
images = {backend: rasterization(*scene, backend=backend)[0][0] for backend in ("reference", "cpu")}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three pictures of the same ball of coloured ellipsoids, from the fifteen-line renderer, the reference backend and the compiled backend; they look equal."}, "figure": {"caption": "One scene, three renderers.", "name": "fig-three"}}
viz.show_images([small, *images.values()], ["fifteen lines", "reference", "cpu"], columns=3)

# %% [markdown]
# **Check.** The bound for the compiled backend is 1e-4, a fortieth of a grey level. The fifteen lines round differently at
# the threshold of 1/255, where alpha jumps to zero, so a pixel may keep a splat that the other drops, and they lack the rule
# that closes a pixel when its remaining light would fall to 1e-4. All but one pixel in a hundred must agree to twice that.

# %% tags=["nbval-check-output"]
apart = (small - images["reference"]).abs().amax(-1)
print("fifteen lines = reference within 2e-4:", bool((apart < 2e-4).float().mean() > 0.99))
print("cpu = reference within 1e-4:         ", bool((images["cpu"] - images["reference"]).abs().max() < 1e-4))

# %% [markdown]
# That rule looks like a shortcut, and for the picture it is one. For the gradient it is a necessity: the backward pass
# recovers the light before each splat by dividing by $1-\alpha$, and dividing what has underflowed to zero gives
# anything at all.

# %% [markdown]
# ## 6 · What a picture tells a Gaussian
#
# Every step so far is differentiable. Take the mean of the squared image as a loss, and compare the compiled backend's
# analytic gradients with automatic differentiation through the reference in float64. The bound is a thousandth of each
# gradient's norm.

# %%
names = ("means", "quats", "scales", "opacities", "colors")


def gradients(backend, dtype):
    inputs = [t.to(dtype).requires_grad_() for t in scene[:5]]
    image, _, _ = rasterization(*inputs, *(c.to(dtype) for c in scene[5:7]), size, size, backend=backend)
    return torch.autograd.grad(image.square().mean(), inputs)


exact, fast = gradients("reference", torch.float64), gradients("cpu", torch.float32)
relative = [float((f - e).norm() / e.norm()) for f, e in zip(fast, exact, strict=True)]

# %% tags=["nbval-check-output"]
print({name: error < 1e-3 for name, error in zip(names, relative, strict=True)})

# %% [markdown]
# So a picture can be *fitted*. Start from grey, random Gaussians and walk down the gradient of the difference to a
# frame of the clip. Nothing here knows what a face is.

# %%
from sa0lib.datasets import Sequence
from sa0lib.paths import DATA

target = Sequence(DATA / "clip", "train", size)[0].image.permute(1, 2, 0)
flat = Camera(intrinsics(float(size), size, size), torch.eye(4), size, size)
positions = torch.cat([torch.rand(4 * N, 2) - 0.5, torch.ones(4 * N, 1)], 1)
theta = [positions, torch.randn(4 * N, 4), torch.full((4 * N, 3), -3.8), torch.zeros(4 * N), torch.zeros(4 * N, 3)]
theta = [t.requires_grad_() for t in theta]
optimizer = torch.optim.Adam(
    [{"params": [t], "lr": lr} for t, lr in zip(theta, (2e-3, 1e-2, 2e-2, 5e-2, 5e-2), strict=True)]
)

# %%
snapshots, steps = [], 25 * (profile.sweep_frames - 1)
for step in range(steps + 1):
    m, q, logs, logit, c = theta
    view = (flat.viewmat[None], flat.K[None], size, size)
    image = rasterization(m, q, logs.exp(), logit.sigmoid(), c.sigmoid(), *view)[0][0]
    if step % 25 == 0:
        snapshots.append((step, image.detach()))
    loss = (image - target).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% tags=["hide-input"]
frames = [torch.cat([image.clamp(0, 1), target], 1) for _, image in snapshots]
labels = [f"step {step}" for step, _ in snapshots]
viz.image_slider(
    frames, labels, "Left, random splats that become a portrait; right, the frame they are fitted to", "fit", 512
)

# %% [markdown]
# ## 7 · Size matters
#
# On a surface, the size of the splats against their spacing decides between holes and blur. Here one Gaussian sits on
# every texel of the head model, painted with the model's own colours; the slider scales all of them.

# %%
from sa0lib.avatar import picture
from sa0lib.gaussians import Gaussians
from sa0lib.head import load_head
from sa0lib.uv import build_uv_map

head = load_head()
uv_map = build_uv_map(head.vt, head.ft, profile.uv_size)
paint = (head.vertex_color[head.faces[uv_map.face]] * uv_map.bary[..., None]).sum(1)
avatar = Gaussians.initial(uv_map, head.v_template, head.faces, paint)
portrait = Camera(
    intrinsics(3.4 * profile.image_size, profile.image_size, profile.image_size),
    orbit(0.5, 0.05, 1.2, head.v_template.mean(0)),
    profile.image_size,
    profile.image_size,
)

# %% tags=["hide-input"]
start = avatar.log_scales.clone()
factors = np.geomspace(0.25, 3, profile.sweep_frames)
sizes = []
for factor in factors:
    avatar.log_scales = start + np.log(factor)
    sizes.append(picture(avatar, head, head.v_template, portrait)[0].permute(1, 2, 0))
viz.image_slider(
    sizes,
    [f"x {f:.2f}" for f in factors],
    "A head of Gaussians whose size grows: dots with holes, a closed skin, a blur",
    "size",
)

# %% [markdown]
# ## 8 · Any number of channels
#
# Nothing above needed colours to be three. The paper's splatter carries 32 features a Gaussian; the same function does.

# %% tags=["nbval-check-output"]
features = torch.cat([colors, torch.rand(N, 29)], 1)
wide = rasterization(means, quats, scales, opacities, features, *scene[5:])[0][0]
print(tuple(wide.shape[-1:]), "first three are the picture:", bool((wide[..., :3] - images["cpu"]).abs().max() < 1e-5))

# %% [markdown]
# ## 9 · Three ways to write the same loops
#
# The head above has as many Gaussians as the paper's avatars. If every pixel met every one of them, as in the fifteen
# lines, one picture would take billions of evaluations. Below, three versions of the blending of {eq}`eq-composite`
# compute the same sums, each in one thread; only the order of the loops changes. They start from what projection leaves:
# centres, conics, extents and colours, sorted front to back.

# %%
from numpy.lib.recfunctions import unstructured_to_structured

from sa0lib.binding import triangle_frames

avatar.log_scales = start
frames = triangle_frames(head.v_template[None], head.faces)
m, q, s, o, c = avatar.world(frames)
view = portrait.viewmat[None], portrait.K[None]
world = m[0], q[0], s[0], o, c, *view, portrait.width, portrait.height
expected, _, meta = rasterization(*world)
meta = {name: meta[name][0] for name in ("means2d", "conics", "radii", "depths")}

# %%
fields = "x y xx xy yy opacity reach_x reach_y red green blue".split()
columns = [meta["means2d"], meta["conics"], o[:, None], meta["radii"], c]
table = torch.cat([column.float() for column in columns], 1)  # [N, 11]
order = meta["depths"].argsort(stable=True)
order = order[(meta["radii"][order] > 0).all(1)]
kind = np.dtype([(name, np.float32) for name in fields])
splats = unstructured_to_structured(table[order].numpy(), kind)  # [K]
print(f"{len(splats):,} of {len(o):,} Gaussians are drawn")

# %% [markdown]
# **Pixel by pixel.** For each pixel, walk through all splats, front to back, until it is full. Compiled by numba, not
# interpreted: what is slow here is not Python.

# %%
import math

from numba import carray, njit


# %%
@njit(fastmath=True)
def shade(splats, ids, row, col, pixel):
    left = 1.0
    for i in ids:
        s = splats[i]
        dx, dy = col + 0.5 - s.x, row + 0.5 - s.y
        power = s.xx * dx * dx + 2 * s.xy * dx * dy + s.yy * dy * dy
        alpha = min(s.opacity * math.exp(-0.5 * power), 0.999)
        if alpha < 1 / 255:
            continue
        if left * (1 - alpha) <= 1e-4:
            break
        pixel[0] += left * alpha * s.red
        pixel[1] += left * alpha * s.green
        pixel[2] += left * alpha * s.blue
        left *= 1 - alpha


# %%
@njit
def naive(splats, image, step):
    everyone = np.arange(len(splats))
    for row in range(0, image.shape[0], step):
        for col in range(image.shape[1]):
            shade(splats, everyone, row, col, image[row, col])


# %% [markdown]
# **Tile by tile.** A splat is small, so most meetings come to nothing. Note for each tile of 16 x 16 pixels which splats
# reach it; a pixel then walks through its tile's list only. This is the step that made splatting fast on GPUs
# {cite}`kerbl2023`.


# %%
@njit
def span(center, reach, side, tiles):
    first, last = (center - reach) // side, (center + reach) // side
    return range(max(int(first), 0), min(int(last) + 1, tiles))


@njit
def tile_lists(splats, side, across, down):
    lists = [[i for i in range(0)] for _ in range(across * down)]
    for i in range(len(splats)):
        s = splats[i]
        for row in span(s.y, s.reach_y, side, down):
            for col in span(s.x, s.reach_x, side, across):
                lists[row * across + col].append(i)
    return lists


# %%
@njit
def tiled(splats, image, side):
    height, width, _ = image.shape
    across, down = -(-width // side), -(-height // side)
    for tile, ids in enumerate(tile_lists(splats, side, across, down)):
        top, left = tile // across * side, tile % across * side
        for row in range(top, min(top + side, height)):
            for col in range(left, min(left + side, width)):
                shade(splats, ids, row, col, image[row, col])


# %% [markdown]
# **Splat by splat, sixteen pixels at once.** Inside a tile the loops change places: for each splat, only the rows that it
# reaches, and in each row all sixteen pixels together. A processor adds sixteen floats as fast as one, but only for code
# without branches: `continue` and `break` become *choices* between two numbers, the exponential a polynomial, and what
# belongs to the tile lies on the stack, where the compiler can prove that no two arrays overlap. What it cannot prove, it
# writes for one pixel at a time, without a word: with the three colours in one array instead of three, this version lost
# most of its lead.

# %%
from sa0lib.lanes import FLAGS, exp_minus_eight, stack_floats

f32 = np.float32


@njit(fastmath=FLAGS, forceinline=True)
def blend_row(s, x, dy, left, red, green, blue, r):
    xx, xy, yy = s.xx / f32(16), s.xy / f32(8), s.yy / f32(16)
    opacity, its_red, its_green, its_blue = s.opacity, s.red, s.green, s.blue
    for j in range(16):
        dx = f32(j) - x
        t = xx * dx * dx + xy * dx * dy + yy * dy * dy
        alpha = min(opacity * exp_minus_eight(t), f32(0.999))
        counts = (alpha >= f32(1 / 255)) & (t < f32(0.7))
        weight = alpha * left[r, j] if counts else f32(0)
        rest = left[r, j] - weight
        weight = weight if rest > f32(1e-4) else f32(0)
        left[r, j] = rest if rest > f32(1e-4) else f32(0)
        red[r, j] += weight * its_red
        green[r, j] += weight * its_green
        blue[r, j] += weight * its_blue


# %%
@njit(fastmath=FLAGS, forceinline=True)
def blend_tile(splats, ids, x0, y0, left, red, green, blue):
    left[:], red[:], green[:], blue[:] = f32(1), f32(0), f32(0), f32(0)
    for i in ids:
        s = splats[i]
        x, y = s.x - f32(x0) - f32(0.5), s.y - f32(y0) - f32(0.5)
        begin = max(math.ceil(y - s.reach_y), 0)
        end = max(begin, min(math.floor(y + s.reach_y) + 1, 16))
        for r in range(np.uint64(begin), np.uint64(end)):
            blend_row(s, x, f32(r) - y, left, red, green, blue, r)


# %%
@njit(fastmath=FLAGS)
def vectorised(splats, image, side):
    height, width, _ = image.shape
    across, down = -(-width // side), -(-height // side)
    left = carray(stack_floats(256), (16, 16))
    red = carray(stack_floats(256), (16, 16))
    green = carray(stack_floats(256), (16, 16))
    blue = carray(stack_floats(256), (16, 16))
    for tile, ids in enumerate(tile_lists(splats, side, across, down)):
        top, first = tile // across * side, tile % across * side
        blend_tile(splats, ids, first, top, left, red, green, blue)
        for r in range(min(side, height - top)):
            for j in range(min(side, width - first)):
                pixel = image[top + r, first + j]
                pixel[0], pixel[1] = red[r, j], green[r, j]
                pixel[2] = blue[r, j]


# %% [markdown]
# **Check.** All three draw what `sa0lib` draws. A pixel in which some alpha lies within rounding of 1/255 may differ by that
# much; all but one in a thousand must agree to a fortieth of a grey level.

# %% tags=["nbval-check-output"]
sparse = portrait.height // 4  # pixel by pixel, four rows have to do
for draw, argument in ((naive, sparse), (tiled, 16), (vectorised, 16)):
    image = np.zeros((portrait.height, portrait.width, 3), np.float32)
    draw(splats, image, argument)
    rows = slice(None, None, sparse if draw is naive else 1)
    apart = np.abs(image - expected[0].numpy()).max(-1)[rows]
    print(f"{draw.__name__} agrees:", bool((apart < 1e-4).mean() > 0.999))

# %% [markdown]
# The clock runs on whole pictures, the best of several; of the first version on four rows, times as many as there are.
# `cpu` is the function of section 5, and its time includes projection and sorting, which the others were given.

# %% tags=["hide-input"]
import time


def best(run, repeats):
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return min(times)


# %% tags=["hide-input"] mystnb={"image": {"alt": "Horizontal bars on a logarithmic time axis: pixel by pixel takes by far the longest, tiles are many times faster, sixteen pixels at once several times faster again, and the library on one and on all threads faster still."}, "figure": {"caption": "One picture of the head, by the three versions and by the library.", "name": "fig-versions"}}
blank, threads = np.zeros((portrait.height, portrait.width, 3), np.float32), torch.get_num_threads()
times = {
    "pixel by pixel": sparse * best(lambda: naive(splats, blank, sparse), 1),
    "tile by tile": best(lambda: tiled(splats, blank, 16), 3),
    "sixteen at once": best(lambda: vectorised(splats, blank, 16), 5),
}
for count in (1, threads):
    torch.set_num_threads(count)
    times[f"cpu, {count} thread{'s' * (count > 1)}"] = best(lambda: rasterization(*world), 20)
bars = plt.barh(list(times), times.values())
plt.bar_label(bars, [f"{value:,.0f} ms" if value > 99 else f"{value:.1f} ms" for value in times.values()], padding=4)
plt.gca().set(xscale="log", xlabel="milliseconds a picture", xlim=(None, 8 * max(times.values())))
plt.gca().invert_yaxis()
plt.show()

# %% [markdown]
# The library goes on from the third version:
#
# - An ellipse is smaller than its box. The rows that it meets are computed for every tile column, and tiles are eight
#   pixels wide and 32 high, so that a vector of sixteen is two rows of eight: fewer lanes idle.
# - Projection and its gradient take sixteen Gaussians at a time, in one pass each.
# - The backward pass walks the same lists from the end, rebuilds the light before each splat, and keeps its sums in
#   sixteen lanes until a splat's last row. Every list entry has a row of its own for its gradient, and rows are added in a
#   fixed order: images and gradients are equal to the last bit for any number of threads.
#
# The table is a recorded run of `make bench` on the refined avatar of {ref}`ch-quickstart`: everything from 3D Gaussians to
# the picture, and with gradients to all of them. *PyTorch tiles* is the second version written with tensors,
# `tests/benchmarks/torch_tiles.py`, differentiated by autograd. The last column counts only the
# arithmetic of the evaluations that add to a pixel, at the peak rate of the same machine.

# %% tags=["hide-input"]
from IPython.display import Markdown

from sa0lib.ledger import read_run

bench = read_run("rasterizer")


def timing(backend, stage, size, **labels):
    labels = dict(scene="avatar", channels=3, threads=bench["threads"]) | labels
    labels |= dict(backend=backend, stage=stage, size=size)
    return next(row for row in bench["timings"] if all(row[name] == value for name, value in labels.items()))


rows = []
for size in bench["plan"]["sizes"]:
    for stage in ("forward", "forward+backward"):
        ours = timing("cpu", stage, size)
        others = [timing(backend, stage, size)["median_ms"] for backend in ("torch_tiles", "reference")]
        limit = next(r for r in bench["limit"]["rows"] if (r["size"], r["stage"], r["channels"]) == (size, stage, 3))
        spread = f"{ours['median_ms']:.1f} ({ours['min_ms']:.1f} to {ours['max_ms']:.1f})"
        cells = [f"{size} px, {stage}", spread, *(f"{other:,.0f}" for other in others), f"{limit['limit_ms']:.2f}"]
        rows.append("| " + " | ".join(cells) + " |")
head_row = "| milliseconds, median | cpu (least to greatest) | PyTorch tiles | reference | arithmetic alone |"
Markdown("\n".join([head_row, "| --- | --- | --- | --- | --- |", *rows]))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two log-log plots of the compiled backend's time. Left, against the number of Gaussians from ten thousand to a million: nearly flat at first, then rising almost in proportion. Right, against the image's side from 128 to 1024 pixels: rising more slowly than the number of pixels."}, "figure": {"caption": "The compiled backend against the number of Gaussians, resampled from the avatar at constant coverage, and against the side of the image. Bars: least and greatest.", "name": "fig-scaling"}}
figure, axes = plt.subplots(1, 2, sharey=True, figsize=(9, 3.6))
last = bench["plan"]["sizes"][-1]
by_count = [(n, dict(scene="resampled", size=last, gaussians=n)) for n in bench["plan"]["counts"]]
by_size = [(size, dict(size=size)) for size in bench["plan"]["pixels"]]
for axis, cases in zip(axes, (by_count, by_size), strict=True):
    for stage, marker in (("forward", "o"), ("forward+backward", "s")):
        found = [timing("cpu", stage, **labels) for _, labels in cases]
        median = np.array([row["median_ms"] for row in found])
        ends = [median - [row["min_ms"] for row in found], [row["max_ms"] for row in found] - median]
        axis.errorbar([x for x, _ in cases], median, yerr=ends, marker=marker, capsize=3, label=stage)
    axis.set(xscale="log", yscale="log")
axes[0].set(xlabel=f"Gaussians, at {last} pixels", ylabel="milliseconds")
axes[1].set(xlabel=f"side of the image in pixels, {bench['scene']['gaussians']:,} Gaussians")
axes[1].set_xticks(bench["plan"]["pixels"], bench["plan"]["pixels"])
axes[1].minorticks_off()
axes[0].legend()
plt.show()

# %% [markdown]
# ## What the paper says, what we measured
#
# App. A.4 states that the product in Eq. (12) is independent of order: confirmed, to the last digits of float64, and only
# for opacity. The paper does not name the blur, the cap, the threshold and the closing rule; they are those of the public
# rasterizers, and a reproduction that changes one of them draws another picture. The table holds the worst
# disagreement of our compiled backend on this page.

# %% tags=["hide-input"]
worst = float((images["cpu"] - images["reference"]).abs().max())
rows = [f"| gradient of {name} | {error:.1e} | 1e-3 |" for name, error in zip(names, relative, strict=True)]
Markdown("\n".join(["| compared | worst | bound |", "| --- | --- | --- |", f"| image | {worst:.1e} | 1e-4 |", *rows]))

# %% [markdown]
# ## Exercises
#
# ```{exercise-start}
# :label: ex-splat-order
# ```
# ● Sort back to front instead, with the *over* operator $C \leftarrow \alpha_i c_i + (1-\alpha_i) C$. Show that it gives the
# colour of {eq}`eq-composite`. Why do renderers go front to back all the same?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-splat-order
# :class: dropdown
# ```
# Unroll the recursion: splat $i$ is multiplied by $(1-\alpha_j)$ of every splat in front of it, and by nothing else. Front to back,
# a pixel can stop as soon as it is full.

# %%
torch.manual_seed(2)
alphas, colors = torch.rand(8).double(), torch.rand(8, 3).double()
over = torch.zeros(3).double()
for alpha, c in zip(alphas.flip(0), colors.flip(0), strict=True):
    over = alpha * c + (1 - alpha) * over
assert torch.allclose(over, blend(alphas, colors)[0])

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-splat-blur
# ```
# ●● The blur adds to the covariance without lowering the opacity, so it makes small splats heavier. For a round splat of
# standard deviation $\sigma$ pixels, by which factor does the blur enlarge the integral of its alpha over the image? At which
# $\sigma$ is that a factor of two?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-splat-blur
# :class: dropdown
# ```
# The integral of a 2D Gaussian is $2\pi\sqrt{\det\Sigma}$, so the factor is $(\sigma^2 + 0.3)/\sigma^2$: two at
# $\sigma = \sqrt{0.3}$, a little over half a pixel. (*Antialiased* rasterizers divide it out again.)


# %%
def alpha_integral(sigma, blur):
    one = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), sigma / 64)
    K = intrinsics(64.0, 64, 64)[None]
    return float(
        rasterization(*one, torch.tensor([0.9]), torch.ones(1, 1), torch.eye(4)[None], K, 64, 64, eps2d=blur)[1].sum()
    )


sigma = 3.0
measured = alpha_integral(sigma, 0.3) / alpha_integral(sigma, 0.0)
assert abs(measured - (sigma**2 + 0.3) / sigma**2) < 2e-3

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-splat-tiles
# ```
# ●●● The fifteen lines let every pixel meet every Gaussian. Count how many of those meetings pass the threshold of 1/255 in the
# scene above. What does that promise to a renderer that sorts splats into tiles of 16 x 16 pixels first?
# ```{exercise-end}
# ```

# %% [markdown]
# ## Summary
#
# - A rotation and three scales make a covariance that is always valid.
# - Projection is linearised at the centre, which is exact enough for splats that are small against their distance.
# - Front-to-back blending needs an order for colour and none for opacity.
# - Blur, cap, threshold and closing rule are part of the definition of the picture.
# - Everything is differentiable, so pictures can be fitted; the compiled gradients agree with float64.
#
# **What to try next.** Fit another frame with half as many Gaussians and watch what is given up first. Then go on to
# {ref}`ch-binding`, where Gaussians stop being free.
