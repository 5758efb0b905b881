"""Around the inner kernels: depth order, packing, binning into tiles, and the sum of their gradients."""

import numpy as np
from numba import njit, prange

from sa0lib.lanes import FLAGS, kernel, prefetch

TILE_W, TILE_H = 8, 32  # pixels
AHEAD = 6  # list entries between asking for a splat and using it
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


@njit(forceinline=True)
def clamped(value, count):
    """The whole number `value` within 0 and count, for values of any size; 0 for NaN."""
    return np.uint32(np.int32(min(value if value > ZERO else ZERO, f32(count))))


@njit(forceinline=True)
def column_span(x, reach, columns):
    """First and one past the last tile column with a pixel centre in x - reach .. x + reach."""
    first = clamped(np.ceil((x - reach - f32(TILE_W - 0.5)) / f32(TILE_W)), columns)
    end = clamped(np.floor((x + reach - HALF) / f32(TILE_W)) + ONE, columns)
    return first, max(first, end)


@njit(forceinline=True, fastmath=FLAGS)
def row_span(near, ellipse, height):
    """First and one past the last row in which a splat's ellipse meets TILE_W pixels, the first `near` from its x.

    ellipse: y of the centre, then lowest, tilt, room and shrink.
    At an offset dx the ellipse a (dx + k dy)^2 + q dy^2 = q reach^2 spans dy = -tilt dx +- sqrt(room - shrink dx^2). It
    ends at dy = -reach where dx = lowest, and at dy = reach where dx = -lowest; where the columns do not hold that
    point, their edge nearest to it is where they meet the ellipse farthest out.
    """
    center, lowest, tilt, room, shrink = ellipse
    far = near + f32(TILE_W - 1)
    low, high = min(max(lowest, near), far), min(max(-lowest, near), far)
    up, down = room - shrink * low * low, room - shrink * high * high
    if max(up, down) < ZERO:
        return np.uint32(0), np.uint32(0)
    start = clamped(np.ceil(center - tilt * low - np.sqrt(max(up, ZERO)) - MARGIN - HALF), height)
    end = clamped(np.floor(center - tilt * high + np.sqrt(max(down, ZERO)) + MARGIN + HALF), height)
    return (start, end) if start < end else (np.uint32(0), np.uint32(0))


@njit
def sum_up(counts):
    """Turn counts into their running sums, in place."""
    total = np.int32(0)
    for n in range(counts.shape[0]):
        total += counts[n]
        counts[n] = total


@kernel(parallel=True)
def pack(means2d, factors, reach, log_reach, colors, width, splats, across):
    """Put what compositing reads of each drawn splat into one row of `splats` [N, 16+] (columns: see `composite`).

    across [N, 2] int32: the first and one past the last tile column that it meets. Returns the sum of their numbers.
    """
    columns, met = (width + TILE_W - 1) // TILE_W, 0
    for i in prange(reach.shape[0]):
        if reach[i, 0] > ZERO:
            splats[i, 0], splats[i, 1] = means2d[i, 0], means2d[i, 1]
            splats[i, 2], splats[i, 3] = factors[i, 0] * HALF * EIGHTH, factors[i, 1]
            splats[i, 4], splats[i, 5] = factors[i, 2] * HALF * EIGHTH, (LOG_255 - log_reach[i] * HALF) * EIGHTH
            splats[i, 6] = reach[i, 1]
            for c in range(splats.shape[1] - 7):
                splats[i, 7 + c] = colors[i, c] if c < colors.shape[1] else ZERO
            across[i, 0], across[i, 1] = column_span(means2d[i, 0], reach[i, 0], columns)
            met += across[i, 1] - across[i, 0]
    return met


@kernel(parallel=True)
def bin_splats(order, splats, across, met, width, height, workers):
    """Lists of the splats that reach each tile of TILE_W x TILE_H pixels, front to back.

    order [K]: splat numbers by depth; splats, across, met: from `pack`.

    Returns offsets [tiles + 1]: tile t owns the rows offsets[t] : offsets[t + 1] of
    entries [M + AHEAD, 4] int32: splat; the first and one past the last pair of tile rows that its ellipse meets in the
    tile; and where the entry's gradient is put, so that those of splat i lie at
    first[i] : first[i + 1]. (The spare entries at the end let prefetching look ahead.)
    Each worker bins a contiguous share of `order` into its own part of every list, so the lists are the same for any
    number of workers.
    """
    columns, rows = (width + TILE_W - 1) // TILE_W, (height + TILE_H - 1) // TILE_H
    count, tiles = order.shape[0], columns * rows
    share = (count + workers - 1) // workers
    spans = np.empty((workers, met, 2), np.uint32)  # of each column that a splat meets: first and one past its last row
    counts = np.zeros((workers, tiles), np.uint32)
    first = np.zeros(splats.shape[0] + 1, np.int32)
    side, wide = np.uint32(TILE_H), np.uint32(columns)
    for worker in prange(workers):
        mine, span, s = counts[worker], spans[worker], 0
        for n in range(worker * share, min(count, (worker + 1) * share)):
            i = order[n]
            prefetch(splats, order[min(n + AHEAD, count - 1)], 0)
            a, k, q, reach = splats[i, 2], splats[i, 3], splats[i, 4], splats[i, 6]
            part = ONE / (a * k * k + q)
            ellipse = splats[i, 1], k * reach, a * k * part, q * reach * reach * part, a * q * part * part
            near, number = f32(across[i, 0] * TILE_W) + HALF - splats[i, 0], np.int32(0)
            for x in range(np.uint32(across[i, 0]), np.uint32(across[i, 1])):
                r0, r1 = row_span(near, ellipse, height)
                span[s, 0], span[s, 1] = r0, r1
                for y in range(r0 // side, (r1 + side - np.uint32(1)) // side):
                    mine[y * wide + x] += np.uint32(1)
                    number += 1
                near, s = near + f32(TILE_W), s + 1
            first[i + 1] = number
    if counts.sum() >= 2**31:
        raise MemoryError("splats and tiles meet more than 2**31 times: draw fewer splats, or smaller ones")
    sum_up(first)
    offsets = np.zeros(tiles + 1, np.int64)
    total = 0
    for t in range(tiles):
        for worker in range(workers):
            start = total
            total += counts[worker, t]
            counts[worker, t] = start  # from here on: where the worker writes next
        offsets[t + 1] = total
    entries = np.empty((total + AHEAD, 4), np.int32)
    for place in range(total, total + AHEAD):
        entries[place, 0] = 0
    for worker in prange(workers):
        mine, span, s = counts[worker], spans[worker], 0
        for i in order[worker * share : (worker + 1) * share]:
            slot = first[i]
            for x in range(np.uint32(across[i, 0]), np.uint32(across[i, 1])):
                r0, r1 = span[s, 0], span[s, 1]
                for y in range(r0 // side, (r1 + side - np.uint32(1)) // side):
                    t, top = y * wide + x, np.int32(y * side)
                    place = mine[t]
                    mine[t] = place + np.uint32(1)
                    entries[place, 0], entries[place, 3] = i, slot
                    entries[place, 1] = max(np.int32(r0) - top, np.int32(0)) // 2
                    entries[place, 2] = (min(np.int32(r1) - top, np.int32(TILE_H)) + 1) // 2
                    slot += 1
                s += 1
    return offsets, entries, first


@kernel(parallel=True)
def sum_entries(splats, opacities, first, sums, g_means2d, g_factors, g_opacities, g_colors):
    """Sum, per Gaussian and in a fixed order, its list entries' rows of `composite_gradient`; g_opacities is added to.

    With alpha = opacity * exp(-(a u^2 + q dy^2) / 2) and u = dx + k dy, dL/da = -1/2 sum(g u^2), and so on.
    """
    for i in prange(first.shape[0] - 1):
        g = gu = guu = gv = guv = gvv = ZERO
        for c in range(g_colors.shape[1]):
            g_colors[i, c] = ZERO
        for entry in range(first[i], first[i + 1]):
            g += sums[entry, 0]
            gu += sums[entry, 1]
            guu += sums[entry, 2]
            gv += sums[entry, 3]
            guv += sums[entry, 4]
            gvv += sums[entry, 5]
            for c in range(g_colors.shape[1]):
                g_colors[i, c] += sums[entry, 6 + c]
        drawn = first[i] < first[i + 1]
        a, k, q = (16 * splats[i, 2], splats[i, 3], 16 * splats[i, 4]) if drawn else (ZERO, ZERO, ZERO)
        g_opacities[i] += g / opacities[i] if drawn else ZERO
        g_means2d[i, 0], g_means2d[i, 1] = a * gu, a * k * gu + q * gv
        g_factors[i, 0], g_factors[i, 1], g_factors[i, 2] = -HALF * guu, -a * guv, -HALF * gvv
