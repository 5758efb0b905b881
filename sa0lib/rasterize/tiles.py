"""Around the inner kernels: depth order, packing, binning into 16 x 16 tiles, and the sum of their gradients."""

import numpy as np
from numba import njit, prange

from sa0lib.rasterize.lanes import TILE, kernel


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
def pack(order, means2d, factors, reach, opacities, colors, splats):
    """Gather what compositing reads into one row per visible splat, front to back (columns: see `composite`)."""
    for k in prange(order.shape[0]):
        i = order[k]
        splats[k, 0], splats[k, 1] = means2d[i, 0], means2d[i, 1]
        splats[k, 2], splats[k, 3], splats[k, 4] = factors[i, 0] / 2, factors[i, 1], factors[i, 2] / 2
        splats[k, 5], splats[k, 6], splats[k, 7] = reach[i, 1], opacities[i], reach[i, 0]
        for c in range(colors.shape[1]):
            splats[k, 8 + c] = colors[i, c]


@njit(inline="always")
def tile_span(center, reach, tiles):
    """First and one past the last tile, on one axis, that a splat reaches."""
    first = min(max((center - reach) / TILE, 0.0), tiles)
    end = min(max((center + reach) / TILE + 1.0, 0.0), tiles)
    return int(first), int(end)


@kernel(parallel=True)
def bin_splats(splats, columns, rows, workers):
    """Lists of the splats that reach each tile, front to back.

    splats [K, >=8] in depth order: x, y in columns 0, 1 and half extents in 7 (x), 5 (y), pixels.

    Returns offsets [tiles + 1]: tile t owns entries offsets[t] : offsets[t + 1] of ids;
    ids [M + 8] int32: splat numbers (8 spare ones at the end, so that prefetching may look ahead);
    first [K + 1], entries [M]: splat k sits at the places entries[first[k] : first[k + 1]] of ids.
    Each worker bins a contiguous share of the splats into its own part of every list, so the lists are the same
    for any number of workers.
    """
    count, tiles = splats.shape[0], columns * rows
    share = (count + workers - 1) // workers
    counts = np.zeros((workers, tiles), np.int64)
    first = np.zeros(count + 1, np.int64)
    for worker in prange(workers):
        for k in range(worker * share, min(count, (worker + 1) * share)):
            x0, x1 = tile_span(splats[k, 0], splats[k, 7], columns)
            y0, y1 = tile_span(splats[k, 1], splats[k, 5], rows)
            first[k + 1] = (x1 - x0) * (y1 - y0)
            for y in range(y0, y1):
                for x in range(x0, x1):
                    counts[worker, y * columns + x] += 1
    offsets = np.zeros(tiles + 1, np.int64)
    total = 0
    for t in range(tiles):
        for worker in range(workers):
            start = total
            total += counts[worker, t]
            counts[worker, t] = start  # from here on: where the worker writes next
        offsets[t + 1] = total
    for k in range(count):
        first[k + 1] += first[k]
    ids = np.zeros(total + 8, np.int32)
    entries = np.empty(total, np.int32)
    for worker in prange(workers):
        for k in range(worker * share, min(count, (worker + 1) * share)):
            x0, x1 = tile_span(splats[k, 0], splats[k, 7], columns)
            y0, y1 = tile_span(splats[k, 1], splats[k, 5], rows)
            n = first[k]
            for y in range(y0, y1):
                for x in range(x0, x1):
                    place = counts[worker, y * columns + x]
                    counts[worker, y * columns + x] += 1
                    ids[place] = k
                    entries[n] = place
                    n += 1
    return offsets, ids, first, entries


@kernel(parallel=True)
def sum_entries(order, splats, first, entries, sums, g_means2d, g_factors, g_opacities, g_colors):
    """Add, per Gaussian and in a fixed order, its list entries' rows of `composite_gradient`.

    With alpha = opacity * exp(-(a u^2 + q dy^2) / 2) and u = dx + k dy, dL/da = -opacity / 2 * sum(g u^2), and so on.
    """
    for n in prange(order.shape[0]):
        i, opacity = order[n], splats[n, 6]
        a, k, q = 2 * splats[n, 2], splats[n, 3], 2 * splats[n, 4]
        g = gu = guu = gv = guv = gvv = np.float32(0)
        for place in entries[first[n] : first[n + 1]]:
            g += sums[place, 0]
            gu += sums[place, 1]
            guu += sums[place, 2]
            gv += sums[place, 3]
            guv += sums[place, 4]
            gvv += sums[place, 5]
            for c in range(g_colors.shape[1]):
                g_colors[i, c] += sums[place, 6 + c]
        g_opacities[i] += g
        g_means2d[i, 0], g_means2d[i, 1] = opacity * a * gu, opacity * (a * k * gu + q * gv)
        g_factors[i, 0], g_factors[i, 2] = -opacity / 2 * guu, -opacity / 2 * gvv
        g_factors[i, 1] = -opacity * a * guv
