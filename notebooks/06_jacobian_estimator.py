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
# (ch-jacobian)=
# # 06 · The Jacobian estimator
#
# **How can one backward pass say how much 58,000 Gaussians lean on the camera, and how far can that answer be trusted?**
#
# You will learn to
#
# - write the energy of a Jacobian in five ways, from finite differences to a single random projection,
# - prove that the projection is right on average, and say exactly how noisy it is,
# - see what a logarithm around it changes, and what it leaves alone,
# - hold the sentences of App. A.3 against measurements, and repair those that fail,
# - tell what the penalty does not look at, and what else could be used in its place.
#
# | time | needs |
# | --- | --- |
# | 45 minutes to read, 4 to 6 to run on two CPU cores | derivatives as matrices, mean and variance; {ref}`ch-binding` for texels and $\Omega$; no GPU |

# %% [markdown]
# ## What the paper says
#
# The decoder is told where the target camera stands, by 27 numbers $\gamma(\mathbf d)$ made from the view direction
# (Eq. 6), so that colour and opacity can change with it. Position and size should not: a nose does not move because
# somebody walks around it. So Sec. 3.2 punishes the derivative of both with respect to $\gamma$. All of it is one long Jacobian; a
# random projection measures its size with a single backward pass (Eq. 3 and 11), after {cite:t}`hutchinson1989` and
# {cite:t}`hoffman2019`. App. A.3 proves that the projection has the right mean and goes on to speak of its variance, of the
# bias of a logarithm, of simpler penalties that fail, and of rotation, which is left out. Hardly any of it comes with a
# measurement. Here it will.

# %% tags=["hide-input"]
import copy
import itertools
import time

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from torch import nn

from sa0lib import viz
from sa0lib.cost import Memory
from sa0lib.head import load_head
from sa0lib.profile import current_profile
from sa0lib.rotation import normalize, quaternion_to_matrix
from sa0lib.uv import build_uv_map

viz.setup()
torch.set_num_threads(1)  # times compare better so, on any machine
torch.manual_seed(0)
profile = current_profile()
head = load_head()

# %% [markdown]
# ## 1 · A decoder that could cheat
#
# The encoding first. Each of the three numbers of $\mathbf d$ comes as it is, and as sine and cosine at four octaves, an old trick
# to let a network see fine differences {cite}`mildenhall2020`:
#
# ```{math}
# :label: eq-harmonic
# \gamma(\mathbf d) = \big[\,\mathbf d,\ \sin(2^k \pi \mathbf d),\ \cos(2^k \pi \mathbf d)\,\big]_{k = 0 \ldots 3}
# \in \mathbb R^{27} .
# ```


# %%
def harmonic(d):
    waves = [d]
    for k in range(4):
        phase = 2**k * torch.pi * d
        waves += [phase.sin(), phase.cos()]
    return torch.cat(waves, -1)  # [B, 3] -> [B, 27]


# %% [markdown]
# (Which column or row of the camera's matrix is $\mathbf d$ is a question of its own; {ref}`ch-generator` settles it.)
#
# A decoder in the manner of the paper's: 32 features for each texel, the 27 numbers repeated at every texel, and parallel
# heads of two convolutions each. Only the two heads that must not cheat are built.


# %%
class Decoder(nn.Module):
    def __init__(self, n_heads=2):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(32 + 27, 64, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(64, 3, 1),
            )
            for _ in range(n_heads)
        )

    def forward(self, features, gamma):
        maps = features.expand(len(gamma), -1, -1, -1)
        spread = gamma[:, :, None, None].expand(-1, -1, *maps.shape[-2:])
        x = torch.cat([maps, spread], 1)  # [B, 59, N, N]
        return [head(x) for head in self.heads]  # each [B, 3, N, N]


# %% [markdown]
# Features of a face are smooth over the chart, so ours are smooth noise. $\Omega$ is that of the head model.


# %%
def smooth_noise(side, cells=8):
    grid = torch.randn(1, 32, cells, cells)
    maps = nn.functional.interpolate(grid, (side, side), mode="bilinear")
    return maps / maps.std()


side = profile.uv_size // 4
omega = build_uv_map(head.vt, head.ft, side).valid
features = smooth_noise(side)
decoder = Decoder().requires_grad_(False)
d = normalize(torch.tensor([[0.3, 0.1, -1.0]]))
gamma = harmonic(d)
print(f"{side} x {side} texels, {int(omega.sum()):,} of them in Omega")


# %% [markdown]
# Does a decoder that was never trained lean on the camera? Turn the camera by ten degrees and see which positions move.
# Their derivative says the same for an arbitrarily small turn: for texel $p$, the matrix $J_p$ of three rows and 27 columns.


# %%
def turned(d, degrees):
    """The direction d, turned about the vertical."""
    a = torch.as_tensor(degrees, dtype=d.dtype).deg2rad()
    x, y, z = d.unbind(-1)
    rotated = [x * a.cos() + z * a.sin(), y, z * a.cos() - x * a.sin()]
    return torch.stack(rotated, -1)


def positions(gamma):
    return decoder(features, gamma)[0]


J = torch.func.jacfwd(positions)(gamma)[0, ..., 0, :]  # [3, N, N, 27]
shift = positions(harmonic(turned(d, 10))) - positions(gamma)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two square charts of the head. Left, the energy of the derivative at every texel, a patchy field that varies by a factor of a few; right, how far the predicted position moves when the camera turns by ten degrees, patchy too."}, "figure": {"caption": "An untrained decoder leans on the camera everywhere. Left, the squared derivative of each texel's position; right, how far the position moves when the camera turns by ten degrees. White: no surface.", "name": "fig-leaning"}}
fields = {
    "energy of the derivative": J.square().sum((0, 3)),
    "shift for ten degrees": shift[0].norm(dim=0),
}
_, axes = plt.subplots(1, 2, figsize=(8, 3.6))
for axis, (name, field) in zip(axes, fields.items(), strict=True):
    shown = axis.imshow(torch.where(omega, field, torch.nan))
    axis.set_title(name, fontsize=10)
    axis.axis("off")
    plt.colorbar(shown, ax=axis, shrink=0.85)
plt.show()

# %% [markdown]
# ## 2 · Five ways to one number
#
# What should vanish is the *Frobenius energy*, the sum of all squared entries (Eq. 9, there divided by $|\Omega|$):
#
# ```{math}
# :label: eq-energy
# \mathcal E = \sum_{p \in \Omega} \lVert J_p \rVert_F^2 = \sum_{p \in \Omega} \sum_{i,k} J_{p,i,k}^2 .
# ```
#
# All texels together are one tall matrix $J$ with $R = 3\,|\Omega|$ rows and 27 columns. On a chart of 8 by 8 texels, in
# float64, we can afford to compute its energy in every way there is.

# %%
tiny_omega = build_uv_map(head.vt, head.ft, 8).valid
tiny_maps = smooth_noise(8, cells=4).double()
precise = copy.deepcopy(decoder).double()
at = gamma[0].double()


def f(gamma):
    """All positions in Omega as one list: [27] -> [R]."""
    return precise(tiny_maps, gamma[None])[0][0, :, tiny_omega].flatten()


print(f"{len(f(at))} numbers out, {len(at)} in")

# %% [markdown]
# **Version 1: nudge every input.** 54 forward passes, and a step that must be neither too large nor too small.


# %%
def by_differences(f, gamma, h=1e-5):
    nudges = h * torch.eye(len(gamma), dtype=gamma.dtype)
    columns = [(f(gamma + n) - f(gamma - n)) / (2 * h) for n in nudges]
    return torch.stack(columns).square().sum()


# %% [markdown]
# **Version 2: ask every output.** One backward pass gives one *row* of $J$. This is the first option that App. A.3 rejects: at full
# size there are 58,000 texels, three numbers each.


# %%
def by_backward_passes(f, gamma):
    gamma = gamma.clone().requires_grad_()
    energy = 0.0
    for y in f(gamma):
        (row,) = torch.autograd.grad(y, gamma, retain_graph=True)
        energy += row.square().sum()
    return energy


# %% [markdown]
# **Version 3: ask all outputs at once.** `vmap` runs the same backward passes as one batch, which is what `torch.func.jacrev`
# does. The second option that App. A.3 rejects, for the tensor of $|\Omega| \times 3 \times 27$ numbers that it makes. That one would be
# small: 81 numbers a texel, hardly more than one hidden layer of the decoder holds. What is not is that every row needs memory of its own for the whole network.


# %%
def by_rows(f, gamma):
    y, pull_back = torch.func.vjp(f, gamma)
    units = torch.eye(len(y), dtype=y.dtype)  # New: all rows together
    return torch.func.vmap(pull_back)(units)[0].square().sum()


# %% [markdown]
# **Version 4: push every input forward.** Forward mode carries a derivative along with the values, from inputs to outputs: one pass
# gives one *column* of $J$. There are 27 columns, however many texels there are. Nine at a time fill the processor and spare memory.
# App. A.3 does not mention this way.


# %%
def by_columns(f, gamma):
    def push(unit):
        return torch.func.jvp(f, (gamma,), (unit,))[1]

    units = torch.eye(len(gamma), dtype=gamma.dtype)  # New: 27, not R
    return torch.func.vmap(push, chunk_size=9)(units).square().sum()


# %% [markdown]
# **Version 5: ask for a random mixture.** Give every output a random sign, add them all up, and take *one* backward pass. The square of
# its length is not $\mathcal E$, but it will turn out to be $\mathcal E$ on average.


# %%
def by_projection(f, gamma):
    gamma = gamma.clone().requires_grad_()
    y = f(gamma)
    signs = torch.randint(0, 2, y.shape).to(y) * 2 - 1  # New: chance
    (slope,) = torch.autograd.grad(signs @ y, gamma)
    return slope.square().sum()


# %%
ways = [
    by_differences,
    by_backward_passes,
    by_rows,
    by_columns,
    by_projection,
]
found = {way.__name__: float(way(f, at)) for way in ways}
found

# %% [markdown]
# **Check.** Rows and columns are the same numbers, added in another order: float64 must agree to $10^{-12}$. Differences
# of step $h$ err by about $h^2$ times third derivatives, plus rounding of $10^{-16}/h$: the bound is $10^{-6}$.

# %% tags=["nbval-check-output"]
truth = found["by_columns"]
for name, bound in (
    ("by_differences", 1e-6),
    ("by_backward_passes", 1e-12),
    ("by_rows", 1e-12),
):
    apart = abs(found[name] / truth - 1)
    print(f"{name} within {bound:.0e}:", apart < bound)

# %% [markdown]
# ### What each costs
#
# Time on one core and memory of each, for both heads and for the value alone, from 64 texels to the paper's size. Memory is counted
# operation by operation: the largest sum of the bytes of all tensors alive at one time, beyond network and features.


# %% tags=["hide-input"]
def median_ms(run, repeats):
    """Median of so many runs; fewer once they have taken a second. Time of this process alone, others do not count."""
    times = []
    while len(times) < repeats and sum(times) < 1000:
        begin = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - begin))
    return float(np.median(times))


def cost(way, side):
    """Median milliseconds and peak MiB for both heads on a chart of that side."""
    maps = smooth_noise(side)

    def both(gamma):
        return torch.cat([m.flatten() for m in decoder(maps, gamma[None])])

    with Memory() as memory:
        way(both, gamma[0])
    return side**2, median_ms(lambda: way(both, gamma[0]), 5), memory.peak / 2**20


# %%
def forward_pass(f, gamma):
    return f(gamma)


reach = {forward_pass: 256, by_differences: 64, by_rows: min(16, side // 2)}
reach |= {by_columns: 256, by_projection: 256}
most = profile.uv_size
sides = [s for s in (8, 16, 32, 64, 128, 256) if s <= most]
costs = {}
for way, last in reach.items():
    costs[way.__name__] = [cost(way, s) for s in sides if s <= last]

# %% [markdown]
# Version 2 is not run here. Version 5 goes back through both heads once, and a row through one of them: the price is estimated as half of
# that, for each of the six rows of a texel.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two log-log plots against the number of texels, time on the left and memory on the right. In time, one backward pass for each output rises steepest and leaves everything behind, all rows at once start high and end early, finite differences and columns run parallel to the forward pass and many times above it, the projection a few times above. In memory, rows climb steepest, columns are next, the projection is close to the forward pass."}, "figure": {"caption": "Time and memory of the five ways, and of the bare forward pass, against the number of texels. The row-by-row way is estimated; lines end where a way is too large to go on.", "name": "fig-cost"}}
figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharex=True)
forward_ms = {n: ms for n, ms, _ in costs["forward_pass"]}
estimate = [(n, forward_ms[n] + 3 * n * (ms - forward_ms[n]), mib) for n, ms, mib in costs["by_projection"]]
table = costs | {"by_backward_passes (estimated)": estimate}
looks = zip("o^v*sD", ("black", *viz.COLORS), strict=False)
for (name, measured), (marker, color) in zip(table.items(), looks, strict=True):
    texels, times, sizes = zip(*measured, strict=True)
    line = "--" if "estimated" in name else "-"
    axes[0].loglog(texels, times, line, marker=marker, color=color, label=name)
    if line == "-":
        axes[1].loglog(texels, sizes, line, marker=marker, color=color)
axes[0].set(xlabel="texels", ylabel="milliseconds")
axes[1].set(xlabel="texels", ylabel="MiB")
figure.legend(loc="outside lower center", ncols=3, fontsize=9)
plt.show()

# %% tags=["hide-input"]
base, dear, cheap = (costs[k][-1] for k in ("forward_pass", "by_columns", "by_projection"))
texels, hours = base[0], estimate[-1][1] / 3.6e6
orders = np.log10(estimate[-1][1] / cheap[1])
Markdown(
    f"With {texels:,} texels a forward pass took {base[1]:,.0f} ms, the projection {cheap[1]:,.0f} ms and "
    f"{cheap[2]:,.0f} MiB, the exact energy by columns {dear[1]:,.0f} ms and {dear[2]:,.0f} MiB: "
    f"**{dear[1] / cheap[1]:.0f} times** the projection's time and {dear[2] / cheap[2]:.0f} times its memory, for an answer "
    f"without any chance in it. Row by row it would take {hours:,.1f} hours, {orders:.1f} orders of magnitude more than the projection."
)

# %% [markdown]
# The paper's choice is thus not between one backward pass and 58,000 of them. Rows are hopeless, and columns are not: the number to
# beat is 27, it does not grow with the chart, and since columns go through the decoder only, the costly encoder is not run again. The
# "one to two orders of magnitude" of App. A.3 is what *columns* cost.
# Keep that in mind for later, when noise has a price too, and so has the gradient of all this.
#
# ### The same from `sa0lib`
#
# Four changes make the fifth version fit for training: it takes maps with their mask; it handles a batch, every sample by itself; it gives
# each head a pass of its own (section 5 says why); and it leaves a graph behind, so that the penalty itself can be differentiated.

# %%
from sa0lib.jacobian import exact_energy, random_signs, squared_projection

leaf = gamma.clone().requires_grad_()
one_draw = squared_projection(decoder(features, leaf), leaf, omega)
energy = exact_energy(lambda g: decoder(features, g), gamma, omega)
print(f"one draw {float(one_draw.detach()):.1f}, exact {float(energy):.1f}")


# %% tags=["nbval-check-output"]
def one_head(gamma):
    return precise(tiny_maps, gamma)[:1]


within = exact_energy(one_head, at[None], tiny_omega)
print("same energy:", bool((within / truth - 1).abs() < 1e-12))

# %% [markdown]
# ## 3 · Right on average
#
# Let $v \in \{-1, +1\}^R$ be independent fair signs (*Rademacher* variables), one for every row. The projection sums
# $g = \langle v, f\rangle$ and returns
#
# ```{math}
# :label: eq-draw
# X = \lVert \nabla_\gamma\, g \rVert^2 = \lVert J^\top v \rVert^2 = v^\top A\, v, \qquad A = J J^\top .
# ```
#
# ```{prf:theorem} The projection is unbiased
# :label: thm-unbiased
# $\mathbb E[X] = \operatorname{tr} A = \lVert J \rVert_F^2 = \mathcal E$. This is Eq. (11).
# ```
#
# ```{prf:proof}
# $X = \sum_{i,j} A_{ij} v_i v_j$. For $i \ne j$ the signs are independent, so $\mathbb E[v_i v_j] = \mathbb E[v_i]\,\mathbb E[v_j] = 0$; for
# $i = j$, $v_i^2 = 1$. What remains is $\sum_i A_{ii}$, and $A_{ii}$ is the squared length of row $i$ of $J$. $\square$
# ```
#
# Nothing was assumed about $J$: texels may depend on one another in any way. Independence is asked of the *signs* only, and
# those we draw ourselves.
#
# **Check, without chance.** Four texels of three channels have $2^{12}$ sign vectors. Their plain mean *is* the expectation, so it must be
# exact in float64.

# %%
twelve = torch.randn(12, 27, dtype=torch.float64)
all_signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=12)))
every_X = (all_signs.double() @ twelve).square().sum(1)  # [4096]

# %% tags=["nbval-check-output"]
off = every_X.mean() / twelve.square().sum() - 1
print("mean over all signs is the energy:", bool(off.abs() < 1e-12))


# %% [markdown]
# **Check, with chance.** On the decoder, $n$ draws have a mean that should lie within five standard errors of the truth, $5\,s/\sqrt n$; a
# right estimator fails that about once in a million times. A batch of equal samples makes many draws in one call.

# %%
n = 200
many = harmonic(d.expand(n, 3)).requires_grad_()
rng = torch.Generator().manual_seed(6)
small = features[..., ::2, ::2], omega[::2, ::2]  # every other texel
maps = decoder(small[0], many)
X = squared_projection(maps, many, small[1], rng).detach()
aim = exact_energy(lambda g: decoder(small[0], g), gamma, small[1])

# %% tags=["nbval-check-output"]
print("unbiased:", bool((X.mean() - aim).abs() < 5 * X.std() / n**0.5))

# %% [markdown]
# ## 4 · How noisy?
#
# Right on average says little: a coin that pays nothing or double is right on average, too. App. A.3 gives an order of magnitude;
# here is the number.
#
# ```{prf:theorem} The variance of the projection
# :label: thm-variance
# $\operatorname{Var}[X] = 2 \sum_{i \ne j} A_{ij}^2$. With $M = J^\top J$ (27 by 27), $\mathcal E = \operatorname{tr} M$, and
#
# $$
# \rho = \frac{(\operatorname{tr} M)^2}{\lVert M \rVert_F^2}, \qquad \kappa = \frac{\sum_i A_{ii}^2}{(\sum_i A_{ii})^2},
# $$
#
# the relative variance is $\operatorname{Var}[X] / \mathcal E^2 = 2/\rho - 2\kappa$.
# ```
#
# ```{prf:proof}
# $X - \operatorname{tr} A = 2 \sum_{i<j} A_{ij}\, v_i v_j$. Each product $v_i v_j$ with $i < j$ has mean zero and square one. Two different
# products are uncorrelated: in $v_i v_j v_k v_l$ some sign stands alone, which makes the mean zero. So the variance is the sum of the
# squared coefficients, $4 \sum_{i<j} A_{ij}^2 = 2 \sum_{i \ne j} A_{ij}^2 = 2\,(\lVert A \rVert_F^2 - \sum_i A_{ii}^2)$. And
# $\lVert J J^\top \rVert_F^2 = \operatorname{tr}(J J^\top J J^\top) = \lVert J^\top J \rVert_F^2$. $\square$
# ```
#
# $\kappa$ asks how unevenly energy is spread over *rows*: it is $1/R$ when all rows are alike in length, and negligible for a large
# chart. $\rho$, the *participation ratio*, counts over how many directions of the *input* it is spread: it is one when all rows are
# parallel, and 27 at most, because $M$ has no more eigenvalues than that.
#
# ```{prf:corollary} It neither shrinks nor grows
# :label: cor-bounds
# Whatever the rows have to do with one another,
# $\ \tfrac{2}{27} - 2\kappa \ \le\ \operatorname{Var}[X] / \mathcal E^2\ \le\ 2$.
# If no row has more than $c$ times the mean energy, $\kappa \le c / R$.
# ```
#
# ```{prf:proof}
# $M$ has 27 eigenvalues, none negative. Their sum is at most $\sqrt{27}$ times the root of their sum of squares (Cauchy and Schwarz) and no less
# than the root itself: $1 \le \rho \le 27$. And $\sum_i A_{ii}^2 \le \max_i A_{ii} \cdot \sum_i A_{ii}$. $\square$
# ```
#
# **Check.** The variance formula on all 4,096 sign vectors, to float64; the bounds for a thousand random matrices from nearly
# rank one to nearly orthogonal.


# %%
def relative_variance(J):
    """2 / rho - 2 kappa, for a Jacobian of any number of rows [R, D]."""
    rows, M = J.square().sum(1), J.T @ J
    square = M.square().sum() - rows.square().sum()
    return float(2 * square / rows.sum() ** 2)


# %% tags=["nbval-check-output"]
exact = every_X.var(correction=0) / every_X.mean() ** 2
print("formula:", bool(abs(exact - relative_variance(twelve)) < 1e-12))
inside = []
for uneven in torch.linspace(0, 3, 1000):
    some = torch.randn(30, 27) * torch.exp(uneven * torch.randn(27))
    row = some.square().sum(1)
    kappa = float(row.square().sum() / row.sum() ** 2)
    inside.append(2 / 27 - 2 * kappa <= relative_variance(some) <= 2)
print("bounds held by all:", all(inside))

# %% [markdown]
# Four kinds of charts, to compare the decoder's own Jacobian with: independent rows that point anywhere; rows that each point in one
# of eight directions; rows all alike; and rows as independent of one another as the first, but along one line. Lines are the formula,
# markers the variance of four thousand draws each.

# %%
texels = int(omega.sum())
counts = [4**k for k in range(1, 6) if 4**k <= texels] + [texels]
order = torch.randperm(texels)
own = J.permute(1, 2, 0, 3)[omega][order]  # [P, 3, 27], shuffled texels
eight = torch.randn(8, 27)
kinds = {
    "independent, any direction": torch.randn(texels, 3, 27),
    "eight directions": eight[torch.randint(8, (texels, 3))],
    "the decoder": own,
    "all rows alike": torch.ones(texels, 3, 27),
    "independent, one line": torch.randn(texels, 3, 1) * torch.ones(27),
}


# %%
def draws(J, n, generator):
    """n draws of X for a Jacobian [R, D], without a network."""
    signs = random_signs(J.new_empty(n, len(J)), generator)
    return (signs @ J).square().sum(1)


n_draws = 4096
cases, relative = {}, {}
for kind, p in itertools.product(kinds, counts):
    some = cases[kind, p] = kinds[kind][:p].flatten(0, 1)
    X = draws(some, n_draws, rng)
    relative[kind, p] = X / some.square().sum()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative variance against the number of texels, from four to thousands. Independent rows of any direction stay near two over 27. Rows all alike and independent rows along one line are both near two. Eight directions and the decoder settle between, the decoder well above the floor. Measured markers lie on the lines."}, "figure": {"caption": "Relative variance of one projection. Lines: the formula. Markers: four thousand draws each. Dotted: the bounds two and, for many texels, two over 27. More texels do not help.", "name": "fig-variance"}}
for color, marker, kind in zip(viz.COLORS, "osv^D", kinds, strict=False):
    formula = [relative_variance(cases[kind, p]) for p in counts]
    measured = [float(relative[kind, p].var()) for p in counts]
    plt.plot(counts, formula, color=color, label=kind)
    plt.plot(counts, measured, marker, color=color)
for level in (2 / 27, 2):
    plt.axhline(level, color="black", linestyle=":")
plt.gca().set(xscale="log", yscale="log", xlabel="texels", ylabel="Var / mean²")
plt.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# **Check.** The variance of $n$ draws is itself uncertain. With many rows alike, $X$ is nearly the square of a normal variable, the
# longest tail among these; the relative standard error of its variance is $\sqrt{14/n}$. The bound is five of those, for every marker.

# %% tags=["nbval-check-output"]
close = []
for key, case in cases.items():
    formula = relative_variance(case)
    apart = abs(float(relative[key].var()) - formula)
    close.append(apart < 5 * (14 / n_draws) ** 0.5 * formula)
print("every measured variance follows:", all(close))

# %% [markdown]
# ### Reading App. A.3 again
#
# The paper arrives at a relative variance of the order of $\sum_{p \ne q} \lVert J_p J_q^\top \rVert_F^2 / \mathcal E^2 = \Theta(1)$. It is right:
# that is our formula up to the factor two, and the pairs of rows *within* a texel, which do not matter for many texels. It is also right that the
# estimator does not get better with more texels. But then comes the condition: this would hold "under approximate cross-pixel
# independence", and correlated texels "would re-introduce a cross-pixel scaling factor". {prf:ref}`cor-bounds` says otherwise:
#
# - $\Theta(1)$ needs no independence. It holds for every $J$ whose energy is spread over many more than 27 rows ($\kappa \ll 1/27$),
#   because there are only 27 inputs.
# - What sets the constant is direction. Rows that point evenly in all 27 directions sit at the floor of $2/27$ and rows along one line at
#   two, whether they are independent or not: the figure has independent rows at both ends. So if the *factor* is a constant, it is
#   27 at most; if it is a power of $|\Omega|$, there is none.
# - Only one thing makes the variance vanish: rows orthogonal to one another, and 27 dimensions hold 27 of those, nine texels' worth.
#
# And what does a real decoder do? Does the overlap of receptive fields align its texels? Take the overlap away: features of
# white noise, and every third texel of every third row only, so that no two texels see the same number. And start from another law of
# the weights:


# %%
def participation(J):
    """rho of a Jacobian [R, 27]: over how many directions it is spread."""
    M = J.T @ J
    return float(M.trace() ** 2 / M.square().sum())


def top_three(J):
    """The share of the energy that lies in the three strongest directions."""
    eigenvalues = torch.linalg.eigvalsh(J.T @ J)  # rising
    return float(eigenvalues[-3:].sum() / eigenvalues.sum())


def columns(network, maps, mask):
    """The Jacobian of each head within the mask, [R, 27]."""
    slopes = torch.func.jacfwd(lambda g: network(maps, g))(gamma)
    return [s[0, ..., 0, :][:, mask].flatten(0, 1) for s in slopes]


def kaiming(branch):
    for layer in (branch[0], branch[2]):
        nn.init.kaiming_normal_(layer.weight)


# %%
sparse = torch.zeros_like(omega)
sparse[::3, ::3] = omega[::3, ::3]
white = torch.randn_like(features)
other = Decoder().requires_grad_(False)
for branch in other.heads:
    kaiming(branch)
measured = {
    "the full chart": columns(decoder, features, omega)[0],
    "texels apart": columns(decoder, white, sparse)[0],
    "the full chart, Kaiming": columns(other, features, omega)[0],
    "texels apart, Kaiming": columns(other, white, sparse)[0],
}
rhos = {name: participation(x) for name, x in measured.items()}
tops = {name: top_three(x) for name, x in measured.items()}

# %% tags=["hide-input"]
lines = [f"| {k} | {rho:.1f} | {100 * tops[k]:.0f} % | {100 * (2 / rho) ** 0.5:.0f} % |" for k, rho in rhos.items()]
heading = "| positions of | ρ | in three directions | a draw is off by |"
Markdown("\n".join([heading, "| --- | --- | --- | --- |", *lines]))

# %% [markdown]
# Overlap hardly matters. What aligns the rows of these decoders is that every texel is decoded by *the same weights*: $J_p$ is the last layer, times
# a diagonal that depends on the features, times the first layer. If the diagonal varied little about its mean, all rows would lie in three directions,
# one for each output channel; that much of the energy does. Larger preactivations make it vary more, and $\rho$ grows.
#
# **Check.** $\rho$ of a head lies between two and eight, with overlap and without, and three of 27 directions hold more than half of the energy.

# %% tags=["nbval-check-output"]
print("two to eight:", all(2 < rho < 8 for rho in rhos.values()))
print("more than half:", all(share > 0.5 for share in tops.values()))

# %% [markdown]
# ### Play: texels do not help, probes do
#
# Averaging $K$ independent projections divides the variance by $K$. Move the slider: curves fall as one, and stay as flat as they
# were. Dotted lines are $\sqrt{(2/\rho - 2\kappa)/K}$.

# %% tags=["hide-input"]
looks = dict(zip(kinds, viz.COLORS, strict=False))


def error_curves(K):
    """Root mean square relative error of the mean of K draws, and what the formula says."""
    traces = []
    for kind, color in looks.items():
        means = [relative[kind, p].reshape(-1, K).mean(1) for p in counts]
        y = [100 * float((m - 1).square().mean().sqrt()) for m in means]
        line = dict(color=color)
        traces.append(go.Scatter(x=counts, y=y, name=kind, line=line, mode="markers", marker=dict(size=9)))
        y = [100 * (relative_variance(cases[kind, p]) / K) ** 0.5 for p in counts]
        line |= dict(dash="dot")
        traces.append(go.Scatter(x=counts, y=y, line=line, mode="lines", showlegend=False))
    return traces


# %% tags=["hide-input"]
probes = [2**k for k in range(7)]
labels = [f"{K}" for K in probes]
frames = [go.Frame(data=error_curves(K), name=str(K)) for K in probes]
figure = go.Figure(error_curves(1), frames=frames)
figure.update_layout(sliders=[viz.frame_slider(labels, "projections averaged")])
figure.update_xaxes(title="texels", type="log")
figure.update_yaxes(title="error, %", range=[0, 150])
viz.interactive(
    figure,
    "Error of the averaged projection against the number of texels for five kinds of "
    "Jacobians: flat curves, which sink together as more projections are averaged",
)

# %% [markdown]
# ## 5 · Two heads, one backward pass
#
# Eq. (3) adds two squares, $\lVert\nabla g_{\mathbf x}\rVert^2 + \lVert\nabla g_{\boldsymbol s}\rVert^2$, one a head, and the text
# charges "one backward pass" for both. But one pass over the sum $g_{\mathbf x} + g_{\boldsymbol s}$ gives
# $\lVert\nabla g_{\mathbf x} + \nabla g_{\boldsymbol s}\rVert^2$, which is something else. Is it as good?
#
# ```{prf:theorem} Separate or joint
# :label: thm-joint
# Let $J_{\mathbf x}$ and $J_{\boldsymbol s}$ be the Jacobians of the heads. Both estimators have the mean
# $\lVert J_{\mathbf x}\rVert_F^2 + \lVert J_{\boldsymbol s}\rVert_F^2$. The joint one never varies less:
#
# $$
# \operatorname{Var}[X_\text{joint}] = \operatorname{Var}[X_{\mathbf x}] + \operatorname{Var}[X_{\boldsymbol s}]
# + 4\, \lVert J_{\mathbf x} J_{\boldsymbol s}^\top \rVert_F^2 .
# $$
# ```
#
# ```{prf:proof}
# Stacked on top of each other the two Jacobians are one, with the signs of both as one long $v$; {prf:ref}`thm-unbiased` gives the mean.
# In {prf:ref}`thm-variance` the pairs $i \ne j$ are those within $\mathbf x$, those within $\boldsymbol s$, and those across, each
# counted twice. The separate estimator has the first two kinds only, since independent variables add their variances. $\square$
# ```
#
# How much that is depends on how alike the heads are, at most about a doubling. What does the cheaper one save? If heads are parallel branches,
# nothing: a pass from one head walks through that head alone. If they share a trunk, the trunk is walked twice.


# %%
class SharedTrunk(Decoder):
    def __init__(self):
        super().__init__(n_heads=1)
        conv, act, self.out_x = self.heads[0]
        self.trunk = nn.Sequential(conv, act)
        self.heads = nn.ModuleList([self.trunk])
        self.out_s = nn.Conv2d(64, 3, 1)

    def forward(self, features, gamma):
        (hidden,) = super().forward(features, gamma)
        return [self.out_x(hidden), self.out_s(hidden)]


# %%
def joint_projection(heads, gamma, mask):
    """One pass for all heads: the square of the sum."""
    g = sum((random_signs(h) * mask * h).sum() for h in heads)
    (slope,) = torch.autograd.grad(g, gamma, create_graph=True)
    return slope.square().sum(-1)


# %% tags=["hide-input"]
networks = {"parallel heads": decoder, "shared trunk": SharedTrunk().requires_grad_(False)}
passes = {"separate": squared_projection, "joint": joint_projection}
lines, noise, drawn = [], {}, {}
for name, network in networks.items():
    pair = columns(network, features, omega)
    whole = torch.cat(pair)
    mean = float(whole.square().sum())
    apart = sum(relative_variance(x) * float(x.square().sum()) ** 2 for x in pair)
    across = 4 * float((pair[0] @ pair[1].T).square().sum()) / mean**2
    noise[name, "separate"] = apart / mean**2
    noise[name, "joint"] = apart / mean**2 + across
    drawn[name, "separate"] = sum(draws(x, n_draws, rng) for x in pair) / mean
    drawn[name, "joint"] = draws(whole, n_draws, rng) / mean
    outputs = network(features, leaf)
    for kind, way in passes.items():
        price = median_ms(lambda way=way, o=outputs: way(o, leaf, omega), 15)
        formula, of_draws = noise[name, kind], float(drawn[name, kind].var())
        cells = (name, kind, f"{price:.1f}", f"{formula:.3f}", f"{of_draws:.3f}", f"{formula * price:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
heading = "| heads | passes | ms | Var / mean², formula | drawn | noise × time |"
Markdown("\n".join([heading, "| --- | --- | --- | --- | --- | --- |", *lines]))

# %% [markdown]
# **Check.** The variance of so many draws follows the formulas, within five of the standard errors of section 4.

# %% tags=["nbval-check-output"]
bound = 5 * (14 / n_draws) ** 0.5
print({key: abs(float(drawn[key].var()) / v - 1) < bound for key, v in noise.items()})

# %% [markdown]
# The paper's five heads are parallel, so both of its phrases are true together: two squares, for the price of one pass. `sa0lib` takes one pass a head
# for that reason: the same cost where the paper is, less noise everywhere. With a shared trunk the joint pass would be the better buy.
#
# One more reading is settled here. App. A.3 says that the bias of the logarithm, to which we come now, is "governed by the sum" of the
# two variances. That is true of separate passes with independent signs, and {prf:ref}`thm-joint` says what must be added for a joint one.

# %% [markdown]
# ## 6 · The logarithm
#
# The loss is not $X$ but $\log(1 + X)$, and the logarithm of a mean is not the mean of logarithms.
#
# ```{prf:theorem} Jensen's gap
# :label: thm-jensen
# Let $\mu = \mathbb E[X]$, $t = (X - \mu)/(1 + \mu)$, and $G = \log(1 + \mu) - \mathbb E[\log(1 + X)]$. Then $G \ge 0$, with equality only if $X$
# does not vary, and
#
# $$
# \Big|\, G - \tfrac12 \frac{\operatorname{Var}[X]}{(1+\mu)^2} \Big| \ \le\ \tfrac13\,
# \mathbb E\Big[\, |t|^3 \max\Big(1, \frac{1 + \mu}{1 + X}\Big) \Big] .
# $$
# ```
#
# ```{prf:proof}
# $\log(1 + X) = \log(1 + \mu) + \log(1 + t)$, so $G = -\mathbb E[\log(1 + t)]$. As $\log(1 + t) \le t$, with equality only at
# $t = 0$, and $\mathbb E[t] = 0$, the first part follows. Let $r(t) = \log(1 + t) - t + t^2/2$, which is what Taylor leaves. For $t \ge 0$ it is
# between $0$ and $t^3/3$. For $t < 0$ the series $-\sum_{n \ge 3} |t|^n/n$ is no longer than $|t|^3/3$ times $\sum_{n \ge 0} |t|^n = 1/(1 - |t|)$, and
# $1 - |t| = 1 + t = (1 + X)/(1 + \mu)$. $\square$
# ```
#
# By {prf:ref}`thm-variance` the leading term is about $\mu^2/(\rho\,(1 + \mu)^2)$. It falls with the *square* of $\mu$ as training drives $\mu$ to zero, as
# the paper says. For large $\mu$ it settles at $1/\rho$, and there the series is not to be trusted, since $t$ is no longer small: its size is
# that of $\sqrt{2/\rho}$. Scale the draws of the decoder up and down, and compare. Mean and variance are exact, those of the theorems; only the
# logarithm is averaged over draws. ($\mathbb E[t] = 0$, so $G = \mathbb E[t - \log(1 + t)]$, which is less noisy.)

# %%
pair = columns(decoder, features, omega)
X_heads = [draws(x, n_draws, rng) for x in pair]  # independent signs
X = sum(X_heads).double()
by_head = [float(x.square().sum()) for x in pair]
mean = sum(by_head)
variance = sum(relative_variance(x) * e**2 for x, e in zip(pair, by_head, strict=True))
scales = np.geomspace(1e-3, 1e4, 29) / mean
gaps, errors, taylor, remainder = [], [], [], []
for c in scales:
    mu = c * mean
    t = (c * X - mu) / (1 + mu)
    gap = t - t.log1p()
    gaps.append(float(gap.mean()))
    errors.append(float(gap.std()) / n_draws**0.5)
    taylor.append(c**2 * variance / 2 / (1 + mu) ** 2)
    rest = t.abs() ** 3 * ((1 + mu) / (1 + c * X)).clamp(min=1)
    remainder.append(float(rest.mean()) / 3)

# %% tags=["nbval-check-output"]
gaps, errors, taylor, remainder = map(np.array, (gaps, errors, taylor, remainder))
fits = np.abs(gaps - taylor) <= remainder + 5 * errors
print("within the remainder:", bool(fits.all()))
rate = np.log(gaps[4] / gaps[0]) / np.log(scales[4] / scales[0])
print("falls with the square of the mean:", bool(abs(rate - 2) < 0.02))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left, Jensen's gap against the mean on logarithmic axes: a straight line of slope two up to one, then a plateau; the Taylor term lies on it for small means and close to it on the plateau. Right, the factor by which the logarithm scales a gradient, one for small arguments and falling as one over the argument for large ones, and the length of the pull on the projection, which rises to one and falls again."}, "figure": {"caption": "Left, the bias of the logarithm for the decoder's own law of X, scaled. Right, what the logarithm does to gradients: its own slope, and the pull on the projected gradient u.", "name": "fig-logarithm"}}
_, axes = plt.subplots(1, 2, figsize=(8.6, 3.6))
means = scales * mean
axes[0].loglog(means, gaps, label="measured gap")
axes[0].loglog(means, taylor, label="Taylor term")
axes[0].set(xlabel="mean of X", ylabel="bias of log(1 + X)")
x = np.geomspace(1e-4, 1e4, 200)
axes[1].loglog(x, 1 / (1 + x), label="slope 1 / (1 + x)")
axes[1].loglog(x, 2 * x**0.5 / (1 + x), label="pull 2|u| / (1 + |u|²), |u|² = x")
axes[1].set(xlabel="x", ylabel="factor", ylim=(5e-5, 8))
for axis in axes:
    axis.legend(fontsize=9)
plt.show()

# %% [markdown]
# ### What the logarithm is for
#
# The right panel answers two more sentences. The wrapper is there "to cap the regularizer's per-step magnitude". Write $u = J^\top v$, so that
# $X = \lVert u \rVert^2$; the pull on $u$ is $2u/(1 + \lVert u\rVert^2)$, never longer than one. The step in the weights is that times
# $\partial u/\partial\theta$, which nothing caps; but for a layer $W$ that $u$ is proportional to, the derivative along the layer itself is
# $2X/\big((1 + X)\,\lVert W\rVert\big)$, at most $2/\lVert W\rVert$ however large $X$ is, where without the logarithm it is $2X/\lVert W\rVert$. Then: "At convergence the wrapper behaves as the identity (gradient
# $\to 1/(1 + \lVert\cdot\rVert^2)$, vanishing as the argument shrinks)." The slope of $\log(1 + x)$ is $1/(1 + x)$, which for small $x$ tends to *one*;
# that is what "behaves as the identity" means. It vanishes for *large* $x$, where the wrapper is meant to damp. What does vanish at
# convergence is the pull on $u$, because the square itself flattens there, with the wrapper and without it. One thing the logarithm leaves
# alone: $\log(1 + X)$ is zero for all signs where $J = 0$, and nowhere else. Another it does not: signs take finitely many values, so
# $\mathbb E$ and $\nabla_\theta$ change places, and the gradient of $X$ is unbiased too; the gradient of the logarithm is not.

# %% tags=["nbval-check-output"]
x = torch.tensor([1e-8, 1e-4, 1e2, 1e6], dtype=torch.float64).requires_grad_()
(slope,) = torch.autograd.grad(x.log1p().sum(), x)
print("small x, slope 1 within 1e-3:", bool(slope[:2].min() > 0.999))
print("large x, slope 1/x within 1 %:", bool((slope * x)[2:].min() > 0.99))
u = torch.linspace(0, 50, 5001, dtype=torch.float64)
pull = 2 * u / (1 + u**2)
print("longest pull:", float(pull.max()), "at", float(u[pull.argmax()]))

# %% [markdown]
# "On the order of $10^2$" is how large the argument is said to be at random initialisation. It is a sum over texels, so it grows with the chart, and with the
# square of the output scale of the last layer. Three decoders each, at common initialisations, for the paper's 58,173 texels:


# %%
def initial_energy(change, seed):
    """Energy of a fresh decoder, for 58,173 texels at our texels' mean."""
    torch.manual_seed(seed)
    fresh = Decoder().requires_grad_(False)
    for branch in fresh.heads:
        change(branch)
    exact = exact_energy(lambda g: fresh(features, g), gamma, omega)
    return float(exact / omega.sum()) * 58_173


starts = {
    "PyTorch's default": lambda branch: None,
    "Kaiming normal": kaiming,
    "default, last layer × 0.1": lambda b: b[2].weight.mul_(0.1),
}
initial = {}
for name, change in starts.items():
    initial[name] = [initial_energy(change, seed) for seed in range(3)]

# %% tags=["hide-input"]
lines = [f"| {k} | " + " | ".join(f"{e:,.0f}" for e in v) + " |" for k, v in initial.items()]
Markdown("\n".join(["| initialisation | seed 0 | seed 1 | seed 2 |", "| --- | --- | --- | --- |", *lines]))

# %% [markdown]
# So $10^2$ is possible and not general: the same net is found between tens and hundreds of thousands, and the argument moves in proportion to $|\Omega|$.
# It also tells us how to read the loss. App. A.2 announces means over valid pixels "for all UV-domain terms"; but divided by 58,173 texels, none of
# these comes near $10^2$. It fits the *sum* that Eq. (3) prints. We follow Eq. (3). Units matter as well: positions in
# metres or in the triangle's frame, scales or their logarithms, change $X$ by the square of the unit, and with it the balance of the two heads.
# $\lambda_\text{jac}$ has no meaning without these choices.
#
# **Check.** Default initialisation gives more than $10^3$; a last layer ten times smaller gives a hundredth of it.

# %% tags=["nbval-check-output"]
plain, kaimed, shy = (np.array(v) for v in initial.values())
print("above a thousand:", bool((plain > 1e3).all()))
print("a hundredth:", bool(np.allclose(shy, plain / 100, rtol=1e-3)))
print("apart by a factor of ten:", bool((kaimed > 10 * shy).all()))

# %% [markdown]
# ## 7 · Signs that cancel
#
# Why signs at all? The plain sum of all outputs needs one backward pass, too. Its square, $\lVert \sum_p \mathbf 1^\top J_p \rVert^2$, is zero already when half of the
# texels lean on the camera one way and half the other, or the three channels of a texel do. App. A.3 calls this a benign minimiser that the projection
# removes. Does it exist, and does training find it?
#
# The task: fit positions that depend on the features, plus a leak: each texel also moves with the camera, to a side that its first feature
# chooses. As many texels go one way as the other, so the function that data want is itself such a minimiser.

# %%
from sa0lib.jacobian import jacobian_penalty, pixel_sum_energy

torch.manual_seed(3)
coarse_omega = build_uv_map(head.vt, head.ft, 16).valid
canvas = torch.randn(1, 32, 16, 16)
lean = torch.randn(27, 3) / 27**0.5
first = canvas[:, :1]
side_of = (first - first[0, 0][coarse_omega].median()).sign()


def leak(gamma):
    return 0.3 * side_of * (gamma @ lean)[:, :, None, None]


def wanted(gamma):
    return 0.5 * canvas[:, 1:4] + leak(gamma)


# %% tags=["nbval-check-output"]
leaf = gamma.clone().requires_grad_()
summed = pixel_sum_energy([wanted(leaf)], leaf, coarse_omega)
each = exact_energy(lambda g: [wanted(g)], gamma, coarse_omega)
print("its pixel sum is zero:", float(summed) < 1e-9)
print("and its energy is not:", float(each) > 10)

# %% [markdown]
# So it exists. Now train against it, with the paper's weight of $10^{-1}$ and its logarithm, each penalty in its own way. The fifth tells noise from
# everything else: eight projections, averaged inside the logarithm.


# %%
def none(see, d, g, out, mask):
    return 0.0


def pixel_sum(see, d, g, out, mask):
    return pixel_sum_energy(out, g, mask).log1p().mean()


def projection(see, d, g, out, mask):
    return jacobian_penalty(out, g, mask, rng)


def eight_projections(see, d, g, out, mask):
    X = [squared_projection(out, g, mask, rng) for _ in range(8)]
    return (sum(X) / 8).log1p().mean()


def all_columns(see, d, g, out, mask):
    return exact_energy(see, g, mask).log1p().mean()


# %%
penalties = {
    "none": none,
    "pixel sum": pixel_sum,
    "projection": projection,
    "eight projections": eight_projections,
    "27 columns": all_columns,
}


def some_views(count):
    return normalize(torch.tensor([0.0, 0, -1]) + 0.4 * torch.randn(count, 3))


# %%
def train(penalty, steps):
    torch.manual_seed(1)
    net, log = Decoder(n_heads=1), []
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

    def see(gamma):
        return net(canvas, gamma)

    for step in range(steps + 1):
        if step % (steps // 50) == 0:
            log.append((step, *report(see)))
        view = some_views(1)
        g = harmonic(view).requires_grad_()
        out = see(g)
        miss = (out[0] - wanted(g.detach()))[..., coarse_omega]
        against = penalty(see, view, g, out, coarse_omega)
        optimizer.zero_grad()
        (miss.square().mean() + 0.1 * against).backward()
        optimizer.step()
    return see, np.array(log)


# %% [markdown]
# Three things are watched: the energy of the pixel sum, the energy of all texels, and how much of the *planted* leak is there: how the output changes over 64
# views that training does not know, regressed on how the leak does.

# %%
held_out = harmonic(some_views(64))


def over_views(maps):
    return (maps - maps.mean(0))[..., coarse_omega]


def report(see):
    g = gamma.clone().requires_grad_()
    summed = pixel_sum_energy(see(g), g, coarse_omega)
    each = exact_energy(see, gamma, coarse_omega)
    planted = over_views(leak(held_out))
    with torch.no_grad():
        found = over_views(see(held_out)[0])
    part = (found * planted).sum() / planted.square().sum()
    return float(summed.detach()), float(each.detach()), float(part)


steps = max(100, 10 * profile.generator_steps)
trained = {name: train(p, steps) for name, p in penalties.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three plots against training steps. Left, the energy of the pixel sum: the pixel-sum penalty drives it down by orders of magnitude. Middle, the energy of all texels: with the pixel-sum penalty it stays near its start; the projection brings it down by more than ten, eight projections and the exact penalty by orders of magnitude more. Right, the part of the planted leak: near one without penalty, near zero with projections and columns, and slowly growing with the pixel sum."}, "figure": {"caption": "Five trainings of the same decoder. The pixel-sum penalty achieves what it asks for (left), does little about what was meant (middle), and lets the planted leak grow back (right).", "name": "fig-cancel"}}
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.8), sharex=True)
names = "energy of the pixel sum", "energy of the texels", "part of the leak"
for column, (axis, name) in enumerate(zip(axes, names, strict=True), 1):
    for color, (_, log) in zip(viz.COLORS, trained.values(), strict=False):
        axis.plot(log[:, 0], log[:, column], "-", color=color)
    axis.set_yscale("linear" if column == 3 else "log")
    axis.set(xlabel="step")
    axis.set_title(name, fontsize=10)
figure.legend(axes[0].lines, trained, loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# **Check.** With the pixel-sum penalty, the pixel sum falls below a hundredth of its start while more than a quarter of the energy remains; the
# projection leaves less than half of what the pixel sum leaves. (Last tenth of the steps, on average.)

# %%
ends = {name: log[-5:].mean(0) for name, (_, log) in trained.items()}
begin = trained["none"][1][0]

# %% tags=["nbval-check-output"]
print("sum gone:", bool(ends["pixel sum"][1] < 0.01 * begin[1]))
print("energy stays:", bool(ends["pixel sum"][2] > 0.25 * begin[2]))
sees = ends["projection"][2] < 0.5 * ends["pixel sum"][2]
print("projection sees it:", bool(sees))

# %% tags=["hide-input"]
left = {name: end[2] / begin[2] for name, end in ends.items()}
parts = {name: end[3] for name, end in ends.items()}
Markdown(
    f"After {steps:,} steps the energy is, of its start, {100 * left['pixel sum']:.0f} % with the pixel sum, {100 * left['projection']:.1f} % with the projection, "
    f"{100 * left['eight projections']:.2f} % with eight, {100 * left['27 columns']:.2f} % with columns, and {100 * left['none']:.0f} % without penalty, since data ask for a leak. "
    f"Of the planted leak there is {100 * parts['none']:.0f} % without penalty, {100 * parts['pixel sum']:.0f} % with the pixel sum (at half time "
    f"{100 * trained['pixel sum'][1][25, 3]:.0f} %), {100 * parts['projection']:.1f} % with the projection. One seed."
)

# %% [markdown]
# So training does find the minimiser, and slowly: the pixel sum kills whatever leak does not cancel, which is most of a fresh decoder's, and then the one
# that cancels grows, because nothing is against it. The projection sees both. That the exact penalty of the same weight gets further is the noise: eight
# projections get most of the way.

# %% [markdown]
# ## 8 · 27 numbers that know of two
#
# $\gamma$ has 27 entries and the camera two degrees of freedom. The penalty treats the entries as if each could move alone, and they
# cannot: sine and cosine of the same angle are tied, and so are all octaves. What counts for *view* invariance is the derivative along the sphere,
# $\partial f/\partial \mathbf d = J\,\Gamma$ with $\Gamma = \partial\gamma/\partial\mathbf d$ (27 by 3), on its two tangent directions. How are the two
# energies related?
#
# ```{prf:proposition} The encoding is a scaled isometry
# :label: prop-isometry
# $\Gamma^\top \Gamma = (1 + 85 \pi^2)\, I_3$ at every $\mathbf d$. So for $\mathcal E_\text{view} = \lVert J\, \Gamma\, T \rVert_F^2$, with $T$ an
# orthonormal basis of the tangent plane, $\ 0 \le \mathcal E_\text{view} \le (1 + 85 \pi^2)\, \mathcal E$, and both ends are reached.
# ```
#
# ```{prf:proof}
# Each entry of $\gamma$ depends on one coordinate of $\mathbf d$, so columns of $\Gamma$ share no entry and are orthogonal. The squared length
# of one is $1 + \sum_{k<4} (2^k\pi)^2 (\cos^2 + \sin^2) = 1 + \pi^2 (1 + 4 + 16 + 64)$. Hence $\Gamma T$ is $\sqrt{1 + 85\pi^2}$ times a matrix with two orthonormal
# columns: $\mathcal E_\text{view}/(1 + 85\pi^2)$ is the energy of the part of each row of $J$ that lies in a plane. Rows in that plane reach the upper end,
# rows orthogonal to it the lower. $\square$
# ```


# %%
def sphere_energy(see, d, mask):
    """The exact energy along the sphere of directions: two tangents."""
    up = torch.tensor([[0.0, 1.0, 0.0]]).to(d).expand_as(d)
    across = normalize(torch.linalg.cross(d, up))
    up = torch.linalg.cross(across, d)

    def moved(s):
        return see(harmonic(d + s[:, :1] * across + s[:, 1:] * up))

    return exact_energy(moved, d.new_zeros(len(d), 2), mask)


# %% [markdown]
# **Check.** The isometry, in float64, at twenty directions.

# %% tags=["nbval-check-output"]
places = normalize(torch.randn(20, 3, dtype=torch.float64))
Gamma = torch.stack([torch.func.jacfwd(harmonic)(p) for p in places])
gram = Gamma.mT @ Gamma / (1 + 85 * torch.pi**2)
print("isometry:", bool((gram - torch.eye(3)).abs().max() < 1e-12))
octave = Gamma.square().sum((0, 2))[3:].unflatten(0, (4, 6)).sum(1)
share = octave / Gamma.square().sum()
print("over 70 % of it in the highest octave:", bool(share[3] > 0.7))
print("exactly 64 / (1/π² + 85):", bool((share[3] * (85 + torch.pi**-2) / 64 - 1).abs() < 1e-12))

# %% [markdown]
# Two consequences. The Frobenius energy weighs all 27 entries alike, while a turn of the camera moves the highest octave eight times as far as the
# lowest, so three quarters of what the view can do passes through six of the entries. And at a given camera, 25 of the 27 punished directions are
# ones that it cannot take. An extreme case: $\tfrac12 \sum (\sin^2 + \cos^2)$ is *constant* on the sphere, perfectly
# invariant, and still has an energy of twelve.


# %% tags=["nbval-check-output"]
def constant(gamma):
    return [gamma[:, 3:, None].square().sum(1, keepdim=True) / 2]


one = normalize(torch.tensor([[0.3, 0.1, -1.0]], dtype=torch.float64))
print("energy:", round(float(exact_energy(constant, harmonic(one))), 9))
print("on the sphere:", bool(sphere_energy(constant, one, None) < 1e-20))

# %% [markdown]
# How much of a decoder's energy lies on the sphere, of what could? For rows without preference the share would be $2/27$. Take the mean over
# directions all around:

# %%
torch.manual_seed(1)
around = normalize(torch.randn(8, 3))
full = exact_energy(lambda g: decoder(features, g), harmonic(around), omega)
view = sphere_energy(lambda g: decoder(features, g), around, omega)
share = float((view / (1 + 85 * torch.pi**2) / full).mean())

# %% tags=["nbval-check-output"]
print("between 1/27 and 4/27:", 1 / 27 < share < 4 / 27)

# %% tags=["hide-input"]
Markdown(
    f"Of the decoder's energy {100 * share:.1f} % lies on the sphere; without preference it would be {200 / 27:.1f} %."
)

# %% [markdown]
# Does it matter? Not for the conclusion: no energy at any direction implies no dependence on the view. It matters for the price. The exact derivative along
# the sphere takes *two* columns where the exact Frobenius energy takes 27. So train once more, with that, in units in which rows without preference
# are punished alike; and with the two points of Eq. (10), of which more below, only to take their time. Compare the time of a training step on
# the larger chart, the noise, and how much of both energies is left at eight directions.


# %%
from sa0lib.jacobian import two_point_proxy

ALIKE = (1 + 85 * torch.pi**2) * 2 / 27  # of rows without preference


def two_tangents(see, d, g, out, mask):
    return (sphere_energy(see, d, mask) / ALIKE).log1p().mean()


def two_points(see, d, g, out, mask):
    return two_point_proxy(out, see(harmonic(some_views(1))), mask).mean()


penalties["two tangents"] = two_tangents
trained["two tangents"] = train(penalties["two tangents"], steps)
front = some_views(8)


def energies_left(see):
    whole = exact_energy(see, harmonic(front), coarse_omega)
    along = sphere_energy(see, front, coarse_omega)
    return float(whole.mean().detach()), float(along.mean().detach())


# %% tags=["hide-input"]
student = copy.deepcopy(decoder).requires_grad_(True)


def large(g):
    return student(features, g)


def step_ms(penalty):
    def run():
        student.zero_grad()
        g = gamma.clone().requires_grad_()
        out = large(g)
        loss = sum(o.square().mean() for o in out) + penalty(large, d, g, out, omega)
        loss.backward()

    run()
    return median_ms(run, 7)


# %% tags=["hide-input"]
spreads = [float(X.std() / X.mean()) / K**0.5 for K in (1, 8)]
noise = {name: f"{100 * value:.0f} %" for name, value in zip(("projection", "eight projections"), spreads, strict=True)}
torch.manual_seed(1)  # as every training started
untrained = Decoder(n_heads=1)
fresh = energies_left(lambda g: untrained(canvas, g))
lines, clock = [], {}
for name, (see, _) in trained.items():
    clock[name] = step_ms(penalties[name])
    shares = [f"{100 * e / e0:.2f} %" for e, e0 in zip(energies_left(see), fresh, strict=True)]
    lines.append("| " + " | ".join([name, f"{clock[name]:.0f}", noise.get(name, "none"), *shares]) + " |")
clock["two points"] = step_ms(two_points)
lines.append(f"| two points | {clock['two points']:.0f} | | | |")
heading = "| penalty | ms a step | noise of a draw | energy left | energy on the sphere left |"
Markdown("\n".join([heading, "| --- | --- | --- | --- | --- |", *lines]))

# %% [markdown]
# Read the first two columns together. "One backward pass" is the price of the penalty's *value*. A training step needs the gradient of that value, which goes
# back through the backward pass, and costs more than the whole step without it; the pixel sum pays the same. Columns pay for 27.
#
# Two tangents leave less on the sphere than eight projections do, for a third of their time, and without chance; what they leave alone is the energy off the sphere, where no camera
# goes. Their price over a single projection is that the function from $\mathbf d$ to the heads has to be called again, where the projection reuses
# the pass that is already there. The book trains with Eq. (3), which is what it reproduces; the sandbox of chapter 18 is the place to exchange it.

# %% [markdown]
# ### The proxy of two points
#
# Eq. (10) needs no derivative at all: decode at two directions, and take the difference. The paper declines it because at "moderate-to-large angular
# separations" it mixes slope with curvature. Where does that begin? Turn the camera step by step, and compare the difference with what the derivative
# alone predicts:

# %%
angles = np.geomspace(1e-3, 90, 101)  # degrees
start = around.double()  # the eight directions of before


def heads_at(degrees):
    return precise(tiny_maps, harmonic(turned(start, degrees)))


zero, one = torch.zeros(()).double(), torch.ones(()).double()
still, slopes = torch.func.jvp(heads_at, (zero,), (one,))
per_degree = sum(s[..., tiny_omega].abs().sum() for s in slopes)
proxy = []
for a in angles:
    apart = two_point_proxy(heads_at(a), still, tiny_omega)
    proxy.append(float(apart.sum()))
predicted = angles * float(per_degree)
of_slope = np.array(proxy) / predicted

# %% tags=["hide-input"] mystnb={"image": {"alt": "Log-log plot of the two-point difference against the angle between the cameras, with the straight line that the derivative predicts. They agree up to a few degrees; then the difference levels off while the line goes on, and at tens of degrees the line is several times too high."}, "figure": {"caption": "The two-point proxy and the prediction of the derivative, for an untrained decoder, summed over eight directions.", "name": "fig-two-points"}}
plt.loglog(angles, proxy, ".-", label="two points, Eq. (10)")
plt.loglog(angles, predicted, "--", label="derivative times angle")
period = np.degrees(2 / 8)
plt.axvline(period, color="black", linestyle=":", label="period of the highest octave")
plt.gca().set(xlabel="degrees between the cameras", ylabel="L1 distance")
plt.legend()
plt.show()

# %% [markdown]
# **Check.** Below a hundredth of a degree both agree to one in a hundred; above thirty degrees the difference is less than half of the prediction.

# %% tags=["nbval-check-output"]
print("near:", bool((np.abs(of_slope[angles < 0.01] - 1) < 0.01).all()))
print("far:", bool((of_slope[angles > 30] < 0.5).all()))

# %% tags=["hide-input"]
ten = angles[np.argmax(np.abs(of_slope - 1) > 0.1)]
Markdown(
    f"Slope and difference part by a tenth at {ten:.1f} degrees. The reason is the encoding: the highest octave goes through a whole period in "
    f"{period:.0f} degrees. The paper's objection holds, and from small angles on."
)

# %% [markdown]
# That does not make the proxy useless. It is insensitive to tiny wiggles and sees large changes, which are what a viewer sees, too;
# its zero, at all pairs of directions, is invariance as well.

# %% [markdown]
# ## 9 · Why not rotation?
#
# A Gaussian's orientation is a unit quaternion, and the network predicts four numbers that are normalised later. App. A.3 leaves rotation out because the Frobenius
# energy of raw quaternions is not the energy of the angle. An example: multiply every raw quaternion by $\lambda$. No rotation changes; the energy
# changes by $\lambda^2$. Or let a quaternion grow with $\gamma$ without turning: energy, and no motion at all.

# %%
torch.manual_seed(4)
mix, first = torch.randn(27, 4) / 10, torch.tensor([[[2.0, 0, 0, 0]]])


def turning(gamma, size=1.0):
    return size * (first + (gamma @ mix)[:, None])  # [B, 1, 4]


def growing(gamma):
    return first * (1 + gamma.sum(-1) / 10)[:, None, None]


# %%
def energies(quaternion):
    """Of raw and of unit quaternions, and of the angle, in radians."""
    unit = exact_energy(lambda g: [normalize(quaternion(g))], gamma)
    matrices = exact_energy(
        lambda g: [quaternion_to_matrix(quaternion(g)).flatten(2)], gamma
    )  # a turn by w changes a matrix by sqrt(2) |w|
    raw = exact_energy(lambda g: [quaternion(g)], gamma)
    return [float(e) for e in (raw, unit, matrices / 2)]


examples = {
    "turning": energies(turning),
    "the same, three times longer": energies(lambda g: turning(g, 3.0)),
    "growing without turning": energies(growing),
}

# %% tags=["hide-input"]
lines = [f"| {k} | " + " | ".join(f"{abs(e):.4f}" for e in v) + " |" for k, v in examples.items()]
Markdown("\n".join(["| quaternion | raw | unit | angle |", "| --- | --- | --- | --- |", *lines]))

# %% [markdown]
# So far the paper is right. But look at the last two columns: the energy of the *normalised* quaternion is a quarter of the energy of the angle, always. A small turn by
# $\omega$ moves a unit quaternion by $\tfrac12 \lVert\omega\rVert$, in any direction, because the sphere of unit quaternions is round. The projection of the
# normalised head is therefore as well posed as that of positions: the "non-trivial metric" is a factor of four. Excluding rotation is a choice,
# not a necessity; whether including it helps is a question for the sandbox.

# %% tags=["nbval-check-output"]
(raw, unit, angle), (raw3, _, angle3), (grown, _, at_rest) = examples.values()
print("raw grows by nine:", abs(raw3 / raw - 9) < 1e-4)
print("angle stays:", abs(angle3 / angle - 1) < 1e-4)
print("growing has energy and no angle:", grown > 0.1 and at_rest < 1e-6)
print("angle is four times unit:", abs(4 * unit / angle - 1) < 1e-4)

# %% [markdown]
# ## What the paper says, what we measured

# %% tags=["hide-input"]
Markdown(
    f"""
| App. A.3 | verdict | here |
| --- | --- | --- |
| the projection is unbiased (Eq. 11) | confirmed | exact over all signs; within five standard errors on a decoder |
| exact energy costs 58,000 passes, or too much memory | by rows only | 27 columns do it, at {dear[1] / cheap[1]:.0f} times the projection |
| ... one to two orders of magnitude | by columns | rows: {orders:.1f} orders (for both heads three rows a texel each) |
| one backward pass | for the value | a training step takes {clock["projection"]:.0f} ms instead of {clock["none"]:.0f} |
| ... the same as for the pixel sum | confirmed | {clock["pixel sum"]:.0f} ms |
| two squares cost one backward pass | confirmed | where heads are parallel branches |
| relative variance is Θ(1) in the texels | confirmed | between 2/27 and 2; of one head {2 / rhos["the full chart"]:.2f} |
| ... its diagonal part is of lower order | confirmed | it is 2κ, at most 2c over the number of rows |
| ... if texels are nearly independent, else it scales | corrected | for every Jacobian; directions decide, not independence |
| receptive fields that overlap correlate texels | not the cause here | without overlap {2 / rhos["texels apart"]:.2f}, just as much: weights are shared |
| unit-length normal projections: a factor d_out, a variance like that | confirmed | in an exercise |
"""
)

# %% [markdown]
# And of what is done with the estimate:

# %% tags=["hide-input"]
everywhere = [e for three in initial.values() for e in three]
at_100 = [np.interp(100, means, values) for values in (gaps, taylor)]
Markdown(
    f"""
| App. A.3 | verdict | here |
| --- | --- | --- |
| bias of the log is −Var / 2(1 + μ)² | leading order, small μ | at μ = 100 there is no small parameter: measured {at_100[0]:.2f}, formula {at_100[1]:.2f} |
| ... and decays as μ does | confirmed | with the square of μ |
| the joint bias follows the sum of variances | confirmed | for one pass a head; a joint pass adds 4‖JₓJₛᵀ‖² |
| about 10² at initialisation | it depends | {min(everywhere):,.0f} to {max(everywhere):,.0f} for three initialisations |
| ... where it would dominate the photometric loss | not tested here | this chapter has no pictures |
| the slope of the log vanishes at convergence | corrected | it tends to one, and vanishes for large arguments |
| the pixel sum has a sign-cancelled minimum | confirmed | exactly; and training drifts there: {100 * parts["pixel sum"]:.0f} % of a planted leak after {steps:,} steps, {100 * parts["projection"]:.1f} % with the projection |
| the residual head does not see γ | confirmed | by construction, {{ref}}`ch-generator` |
| training is stable | not tested here | needs the whole generator |
| two points confound slope and curvature | confirmed | by a tenth at {ten:.1f} degrees |
| for rotations the penalty is ill-posed | corrected | for raw quaternions; for unit ones it is a quarter of the angle's energy |
"""
)

# %% [markdown]
# What the text leaves open, and what `sa0lib` does: the batch (one logarithm a sample, then the mean); sum or mean over texels (the sum, as in Eq. 3);
# the units of positions and scales (the triangle's frame; logarithms). What it does not consider: columns instead of rows, and the sphere instead of 27
# free inputs.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start}
# :label: ex-jac-exact
# ```
# ● For which Jacobians is a *single* projection exact, whatever the signs? How many texels of three channels can such a chart have?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-jac-exact
# :class: dropdown
# ```
# The variance $2\sum_{i \ne j} A_{ij}^2$ must vanish, so all rows are at right angles to one another. In 27 dimensions there are at most 27 such rows (besides rows of
# zeros): nine texels.

# %%
basis, _ = torch.linalg.qr(torch.randn(27, 27, dtype=torch.float64))
nine_texels = basis * torch.rand(27, 1, dtype=torch.float64)
same = draws(nine_texels, 100, rng)
assert torch.allclose(same, nine_texels.square().sum().expand(100))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-jac-side
# ```
# ●● Project from the other side: draw signs $w$ for the 27 *inputs*, push them forward in one pass, and take $\lVert J w \rVert^2$. Show that it is unbiased, too, derive its
# variance, and find a Jacobian for which it beats the backward projection by far. And for the decoder?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-jac-side
# :class: dropdown
# ```
# $\lVert J w\rVert^2 = w^\top M w$ is the same form with $M$ in the place of $A$: mean $\operatorname{tr} M$, variance $2\sum_{k \ne l} M_{kl}^2$, relative variance
# $2/\rho - 2 \sum_k M_{kk}^2/\mathcal E^2$. The last sum is at least $1/27$, so this side is better by at least $2/27 - 2\kappa$. With
# one input for all rows, $J = a\,e_1^\top$, the backward variance is two and the forward one exactly zero. With rows of any direction $M$ is nearly diagonal, and
# the noise all but gone: here texels *do* help. For the decoder $\rho$ is small, and little is gained:


# %%
def other_side(J, n, generator):
    signs = random_signs(J.new_empty(n, J.shape[1]), generator)
    return (signs @ J.T).square().sum(1)


one_input = torch.randn(300, 1) * torch.eye(27)[:1]
assert other_side(one_input, 100, rng).var() < 1e-9 < relative_variance(one_input)
for kind in ("independent, any direction", "the decoder"):
    J_all = kinds[kind].flatten(0, 1)
    pushed = other_side(J_all, 1000, rng) / J_all.square().sum()
    assert abs(float(pushed.mean()) - 1) < 5 * float(pushed.std()) / 1000**0.5
    print(f"{kind}: backward {relative_variance(J_all):.3f}, forward {float(pushed.var()):.3f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-jac-gauss
# ```
# ●● {cite:t}`hoffman2019` draw $v$ from a normal distribution and scale it to unit length. What are mean and variance with plain normal $v$, and which factor does
# the scaling bring in if each texel's three numbers are scaled to length one?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-jac-gauss
# :class: dropdown
# ```
# Normal $v$ have $\mathbb E[v v^\top] = I$, so the mean is the same. Now $v_i^2$ varies, too, and the variance is $2 \lVert A \rVert_F^2$: relative variance
# $2/\rho$, more than that of signs by $2\kappa$, which is nothing on a large chart. A uniform direction in three dimensions has
# $\mathbb E[v v^\top] = I/3$: the mean is a third, and multiplying by $d_\text{out} = 3$ repairs it, as App. A.3 says. Different texels stay independent, so only
# pairs within a texel change the variance, by moments like $\mathbb E[v_i^4] = \tfrac95$ in place of one: little, on a large chart.

# %%
slopes = kinds["the decoder"]
J_all, n = slopes.flatten(0, 1), 1000
gauss = torch.randn(n, *slopes.shape[:2], generator=rng)
for v, factor in ((gauss, 1), (normalize(gauss), 3)):
    X_v = factor * (v.flatten(1) @ J_all).square().sum(1)
    X_v = X_v / J_all.square().sum()
    assert abs(float(X_v.mean()) - 1) < 5 * float(X_v.std()) / n**0.5
    formula = relative_variance(J_all)
    assert abs(float(X_v.var()) / formula - 1) < 5 * (14 / n) ** 0.5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-jac-limit
# ```
# ●●● Let all rows be alike ($\rho = 1$). Let first the chart grow, then $\mu$. What is the limit of Jensen's gap, what does the Taylor term say, and why does the order matter?
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-jac-limit
# :class: dropdown
# ```
# $J^\top v$ is one row times a sum of many signs, so $X/\mu$ tends to the square $z^2$ of a standard normal variable. For large $\mu$ the gap is
# $-\mathbb E[\log z^2] = \gamma_E + \log 2$ with Euler's constant, about $1.27$. The Taylor term says $\tfrac12 \cdot 2 = 1$: short by a fifth. On a chart of fixed, even size the
# signs sum to zero with some probability $P_0 > 0$; there $\log(1 + X) = 0$, and the gap grows without end, like $P_0 \log(1 + \mu)$.

# %%
z2 = torch.randn(200_000, generator=rng, dtype=torch.float64).square()
mu = 1e9
gap = float(np.log1p(mu) - torch.log1p(mu * z2).mean())
assert abs(gap - (np.euler_gamma + np.log(2))) < 5 * 2.23 / len(z2) ** 0.5

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Summary
#
# - One backward pass of a randomly signed sum gives the energy of a Jacobian on average, for any Jacobian.
# - Its relative variance is $2/\rho - 2\kappa$: between $2/27$ and two, set by how many input directions the energy fills, not by the number of texels. The small
#   decoders measured here, which share their weights over the chart, fill few.
# - The logarithm bounds the pull; its bias is about half the relative variance where the argument is large, and a vanishing share of the target where it is small.
# - The plain pixel sum can be satisfied without being invariant, and training drifts there.
# - Forward mode makes exact energies possible: 27 columns for the Frobenius norm, dear but not hopeless; two for the view, which are cheap.
# - A rotation can be treated like a position once its quaternion is normalised.
#
# **What to try next.** Give the decoder a third layer and see where $\rho$ goes. Train with two tangents in place of the projection. Replace
# $\log(1 + X)$ by $X$ with a weight that warms up, the alternative that App. A.3 names. {ref}`ch-splatting` shows which view dependence no
# penalty here can touch: that of the projection itself.
#
# The trace estimator is that of {cite:t}`hutchinson1989`. Penalties on derivatives are older in learning: {cite:t}`drucker1992` and {cite:t}`bishop1995`;
# {cite:t}`hoffman2019` made them cheap by random projection.
