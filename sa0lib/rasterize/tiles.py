"""Around the inner kernels: depth order, packing, binning into tiles, and the sum of their gradients."""

import numpy as np
from numba import njit, prange

from sa0lib.rasterize.lanes import TILE_H, TILE_W, kernel

f32 = np.float32
ZERO, HALF, ONE, EIGHTH = f32(0), f32(0.5), f32(1), f32(1 / 8)
LOG_255 = f32(np.log(255))
MARGIN = f32(1e-3)  # pixels: no row may be lost to rounding; the extra ones fail the alpha test


@kernel()
def depth_order(key, reach):
    """Indices of the splats with a non-zero reach, sorted by (depth, index).

    key [N] uint32: the bits of the positive float32 depths, which sort like the depths themselves.
    reach [N, 2] float32: half extents in pixels, zero for culled splats.

    A radix sort, three passes of 11 bits, is stable: splats of equal depth keep the order of their indices,
    whatever the number of threads. (With another tie order two correct images differ by up to 0.4 in a pixel.)
    """
    visible = np.flatnonzero(reach[:, 0] > 0).astype(np.int32)
    spare = np.empty_like(visible)
    starts = np.zeros((3, 2049), np.int64)
    for i in visible:
        for d in range(3):
            starts[d, ((key[i] >> np.uint32(11 * d)) & np.uint32(2047)) + 1] += 1
    for d in range(3):
        start = np.cumsum(starts[d])
        for i in visible:
            digit = (key[i] >> np.uint32(11 * d)) & np.uint32(2047)
            spare[start[digit]] = i
            start[digit] += 1
        visible, spare = spare, visible
    return visible


@kernel(parallel=True)
def pack(order, means2d, factors, reach, log_reach, colors, splats):
    """Gather what compositing reads into one row per visible splat, front to back (columns: see `composite`)."""
    for n in prange(order.shape[0]):
        i = order[n]
        splats[n, 0], splats[n, 1] = means2d[i, 0], means2d[i, 1]
        splats[n, 2], splats[n, 3] = factors[i, 0] * HALF * EIGHTH, factors[i, 1]
        splats[n, 4], splats[n, 5] = factors[i, 2] * HALF * EIGHTH, (LOG_255 - log_reach[i] * HALF) * EIGHTH
        splats[n, 6], splats[n, 7] = reach[i, 0], reach[i, 1]
        for c in range(colors.shape[1]):
            splats[n, 8 + c] = colors[i, c]


@njit(inline="always")
def clamped(value, count):
    """int(value) within 0 and count, for values of any size."""
    return np.int64(min(max(value, ZERO), f32(count)))


@njit(inline="always")
def column_span(x, reach, columns):
    """First and one past the last tile column with a pixel centre in x - reach .. x + reach."""
    first = clamped(np.ceil((x - reach - f32(TILE_W - 0.5)) / f32(TILE_W)), columns)
    end = clamped(np.floor((x + reach - HALF) / f32(TILE_W)) + ONE, columns)
    return first, max(first, end)


@njit(inline="always", fastmath=True)
def row_span(splat, left, height):
    """First and one past the last row in which the splat's ellipse meets the TILE_W pixels from `left` on.

    The ellipse a (dx + k dy)^2 + q dy^2 = q reach^2 is highest at dx = -k reach, lowest at dx = k reach. Where the
    columns do not hold that point, their edge nearest to it holds the extreme.
    """
    a, k, q, reach = splat[2], splat[3], splat[4], splat[7]
    near = f32(left) + HALF - splat[0]
    far = near + f32(TILE_W - 1)
    top, bottom = min(max(k * reach, near), far), min(max(-k * reach, near), far)
    c = a * k * k + q
    room, shrink = c * q * reach * reach, a * q
    up, down = room - shrink * top * top, room - shrink * bottom * bottom
    if max(up, down) < ZERO:
        return 0, 0
    low = splat[1] - (a * k * top + np.sqrt(max(up, ZERO))) / c - MARGIN
    high = splat[1] - (a * k * bottom - np.sqrt(max(down, ZERO))) / c + MARGIN
    first = clamped(np.ceil(low - HALF), height)
    return first, max(first, clamped(np.floor(high - HALF) + ONE, height))


@kernel(parallel=True)
def bin_splats(splats, width, height, workers):
    """Lists of the splats that reach each tile of TILE_W x TILE_H pixels, front to back.

    splats [K, >=8] in depth order (columns: see `composite`).

    Returns offsets [tiles + 1]: tile t owns entries offsets[t] : offsets[t + 1];
    ids [M + 8] int32: the splat of each entry (8 spare ones at the end, so that prefetching may look ahead);
    vectors [M, 2] uint8: first and one past the last pair of tile rows that the splat's ellipse meets in the tile;
    slots [M] int32: where the entry's gradient is put, so that those of splat n lie at first[n] : first[n + 1].
    Each worker bins a contiguous share of the splats into its own part of every list, so the lists are the same
    for any number of workers.
    """
    columns, rows = (width + TILE_W - 1) // TILE_W, (height + TILE_H - 1) // TILE_H
    count, tiles = splats.shape[0], columns * rows
    share = (count + workers - 1) // workers
    starts = np.zeros(count + 1, np.int64)  # of each splat's columns
    for n in prange(count):
        x0, x1 = column_span(splats[n, 0], splats[n, 6], columns)
        starts[n + 1] = x1 - x0
    for n in range(count):
        starts[n + 1] += starts[n]
    spans = np.empty((starts[count], 2), np.int32)
    counts = np.zeros((workers, tiles), np.int64)
    first = np.zeros(count + 1, np.int64)
    for worker in prange(workers):
        for n in range(worker * share, min(count, (worker + 1) * share)):
            x0, _ = column_span(splats[n, 0], splats[n, 6], columns)
            for s in range(starts[n], starts[n + 1]):
                x = x0 + s - starts[n]
                r0, r1 = row_span(splats[n], x * TILE_W, height)
                spans[s, 0], spans[s, 1] = r0, r1
                if r0 < r1:
                    for y in range(r0 // TILE_H, (r1 - 1) // TILE_H + 1):
                        counts[worker, y * columns + x] += 1
                        first[n + 1] += 1
    offsets = np.zeros(tiles + 1, np.int64)
    total = 0
    for t in range(tiles):
        for worker in range(workers):
            start = total
            total += counts[worker, t]
            counts[worker, t] = start  # from here on: where the worker writes next
        offsets[t + 1] = total
    for n in range(count):
        first[n + 1] += first[n]
    ids, slots = np.zeros(total + 8, np.int32), np.empty(total, np.int32)
    vectors = np.empty((total, 2), np.uint8)
    for worker in prange(workers):
        for n in range(worker * share, min(count, (worker + 1) * share)):
            x0, _ = column_span(splats[n, 0], splats[n, 6], columns)
            slot = first[n]
            for s in range(starts[n], starts[n + 1]):
                x, r0, r1 = x0 + s - starts[n], np.int64(spans[s, 0]), np.int64(spans[s, 1])
                if r0 == r1:
                    continue
                for y in range(r0 // TILE_H, (r1 - 1) // TILE_H + 1):
                    place = counts[worker, y * columns + x]
                    counts[worker, y * columns + x] += 1
                    ids[place], slots[place] = n, slot
                    vectors[place, 0] = max(r0 - y * TILE_H, 0) // 2
                    vectors[place, 1] = (min(r1 - y * TILE_H, TILE_H) + 1) // 2
                    slot += 1
    return offsets, ids, vectors, slots, first


@kernel(parallel=True)
def sum_entries(order, splats, opacities, first, sums, g_means2d, g_factors, g_opacities, g_colors):
    """Add, per Gaussian and in a fixed order, its list entries' rows of `composite_gradient`.

    With alpha = opacity * exp(-(a u^2 + q dy^2) / 2) and u = dx + k dy, dL/da = -1/2 sum(g u^2), and so on.
    """
    for n in prange(order.shape[0]):
        i = order[n]
        a, k, q = 16 * splats[n, 2], splats[n, 3], 16 * splats[n, 4]
        g = gu = guu = gv = guv = gvv = ZERO
        for entry in range(first[n], first[n + 1]):
            g += sums[entry, 0]
            gu += sums[entry, 1]
            guu += sums[entry, 2]
            gv += sums[entry, 3]
            guv += sums[entry, 4]
            gvv += sums[entry, 5]
            for c in range(g_colors.shape[1]):
                g_colors[i, c] += sums[entry, 6 + c]
        g_opacities[i] += g / opacities[i]
        g_means2d[i, 0], g_means2d[i, 1] = a * gu, a * k * gu + q * gv
        g_factors[i, 0], g_factors[i, 1], g_factors[i, 2] = -HALF * guu, -a * guv, -HALF * gvv
