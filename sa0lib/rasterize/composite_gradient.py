"""The gradient of compositing: each tile's list once more, from its end."""

from numba import carray, prange

from sa0lib.lanes import FLAGS, exp_minus_eight, kernel, prefetch, stack_floats, sum_lanes
from sa0lib.rasterize.composite import (
    ALPHA_MAX,
    BEYOND,
    FAINTEST,
    FOURFOLD,
    HALF,
    NEVER,
    ONE,
    PIXELS,
    RUN,
    TWO,
    VECTORS,
    ZERO,
    f32,
    u64,
)
from sa0lib.rasterize.tiles import AHEAD, TILE_H, TILE_W

FOUR = f32(4)
BEYOND_LANES = 28 * 16


def sum_columns(padded: int) -> int:
    """Columns of `sums` for this many channels: six of geometry, four channels, and as many as `sum_lanes` writes."""
    return 16 if padded <= 4 else 32 if padded <= 20 else 48


@kernel(parallel=True, fastmath=FLAGS)
def composite_gradient(splats, offsets, entries, background, workers, remaining, last, g_image, g_alpha, sums):
    """Fill sums [M, sum_columns(P)]: per list entry, sums over the pixels of its tile, in the row that the entry names.

    With g = dL/dalpha * alpha (zero where alpha is capped), the columns are the sums of g, g u, g u^2, g dy, g u dy,
    g dy^2, then of weight * dL/dC per channel.

    Back to front: transmittance is rebuilt by division, and `behind` holds what all later splats and the
    background contribute to the pixel's loss, so that dL/dalpha_i = T_i (c_i . dL/dC) - behind / (1 - alpha_i).
    Entries after a pixel's last one are masked: without that the division runs away on deep overlap.

    From one vector to the next dy grows by two and u by 2k, so the inner loop sums only g, g m and g m^2 over the
    vectors m = 0, 1, ... per lane; the six sums are put together from those once an entry.
    """
    height, width, channels = g_image.shape
    padded, columns = background.shape[0], (width + TILE_W - 1) // TILE_W
    beyond = u64(padded - 4)
    for worker in prange(workers):
        light = carray(stack_floats(PIXELS), (VECTORS, 16))
        latest = carray(stack_floats(PIXELS), (VECTORS, 16))
        behind = carray(stack_floats(PIXELS), (VECTORS, 16))
        g_color = carray(stack_floats(FOURFOLD), (4, VECTORS, 16))
        moments = carray(stack_floats(48), (3, 16))
        geometry = carray(stack_floats(160), (10, 16))
        colors = carray(stack_floats(64), (4, 16))
        pull = carray(stack_floats(64), (4, 16))  # c_i . dL/dC over the channels beyond four, in four parts
        weight = carray(stack_floats(16), (16,))
        col = carray(stack_floats(16), (16,))
        row = carray(stack_floats(16), (16,))
        dx = carray(stack_floats(16), (16,))
        dy0 = carray(stack_floats(16), (16,))
        row_last = carray(stack_floats(VECTORS), (VECTORS,))
        g_more = carray(stack_floats(BEYOND), (28, VECTORS, 16))
        more = carray(stack_floats(BEYOND_LANES), (28, 16))
        g_more[: padded - 4] = ZERO
        for j in range(16):
            col[j], row[j] = f32(j % 8), f32(j // 8)
        for tile in range(offsets.shape[0] - 1):
            if tile // RUN % workers != worker:
                continue
            begin, end = offsets[tile], offsets[tile + 1]
            if begin == end:
                continue
            left, top = u64((tile % columns) * TILE_W), u64((tile // columns) * TILE_H)
            rows, cols = min(u64(TILE_H), u64(height) - top), min(u64(TILE_W), u64(width) - left)
            light[:], latest[:], behind[:], g_color[:] = ONE, NEVER, ZERO, ZERO
            if rows < TILE_H or cols < TILE_W:
                g_more[: padded - 4] = ZERO
            row_last[:], tile_last = NEVER, NEVER
            for r in range(rows):
                v = r >> u64(1)
                for c in range(cols):
                    j, y, x = (r & u64(1)) * u64(8) + c, top + r, left + c
                    light[v, j], latest[v, j] = remaining[y, x], last[y, x]
                    row_last[v] = max(row_last[v], latest[v, j])
                    g = -g_alpha[y, x]
                    for n in range(min(u64(4), u64(channels))):
                        g_color[n, v, j] = g_image[y, x, n]
                        g += g_image[y, x, n] * background[n]
                    for n in range(u64(4), u64(channels)):
                        g_more[n - u64(4), v, j] = g_image[y, x, n]
                        g += g_image[y, x, n] * background[n]
                    behind[v, j] = g * light[v, j]
                tile_last = max(tile_last, row_last[v])
            for place in range(end - 1, begin - 1, -1):
                number, slot = f32(place - begin), entries[place, 3]
                if number > tile_last:
                    sums[slot, :] = ZERO
                    continue
                i, ahead = entries[place, 0], max(place - AHEAD, 0)
                prefetch(splats, entries[ahead, 0], 0)
                prefetch(sums, entries[ahead, 3], 0)
                a, k, q, faint = splats[i, 2], splats[i, 3], splats[i, 4], splats[i, 5]
                c0, c1, c2, c3 = splats[i, 7], splats[i, 8], splats[i, 9], splats[i, 10]
                first, stop = u64(entries[place, 1]), u64(entries[place, 2])
                x = splats[i, 0] - f32(left) - HALF
                y = splats[i, 1] - f32(top) - HALF - TWO * f32(first)  # so that m counts from the first vector
                for j in range(16):
                    dx[j], dy0[j] = col[j] - x, row[j] - y
                moments[:], colors[:], pull[:] = ZERO, ZERO, ZERO
                if padded > 4:
                    more[:] = ZERO
                for r in range(first, stop):
                    if number > row_last[r]:
                        continue
                    m = f32(r - first)
                    if padded > 4:
                        pull[:] = ZERO
                    for c in range(u64(0), beyond, u64(4)):
                        d0, d1, d2, d3 = (
                            splats[i, c + u64(11)],
                            splats[i, c + u64(12)],
                            splats[i, c + u64(13)],
                            splats[i, c + u64(14)],
                        )
                        for j in range(16):
                            pull[0, j] += g_more[c, r, j] * d0
                            pull[1, j] += g_more[c + u64(1), r, j] * d1
                            pull[2, j] += g_more[c + u64(2), r, j] * d2
                            pull[3, j] += g_more[c + u64(3), r, j] * d3
                    for j in range(16):
                        dy = dy0[j] + TWO * m
                        u = dx[j] + k * dy
                        t = a * u * u + (q * dy * dy + faint)
                        takes = (t <= FAINTEST) & (number <= latest[r, j])
                        e = exp_minus_eight(t)
                        slope = e if takes & (e <= ALPHA_MAX) else ZERO
                        e = min(e, ALPHA_MAX) if takes else ZERO
                        through = ONE / (ONE - e)
                        before = light[r, j] * through
                        w = e * before
                        g0, g1, g2, g3 = g_color[0, r, j], g_color[1, r, j], g_color[2, r, j], g_color[3, r, j]
                        near = pull[0, j] + g0 * c0 + pull[1, j] + g1 * c1
                        toward = near + pull[2, j] + g2 * c2 + pull[3, j] + g3 * c3
                        g = (toward * before - behind[r, j] * through) * slope
                        behind[r, j] += w * toward
                        light[r, j] = before
                        weight[j] = w
                        moments[0, j] += g
                        moments[1, j] += g * m
                        moments[2, j] += g * (m * m)
                        colors[0, j] += w * g0
                        colors[1, j] += w * g1
                        colors[2, j] += w * g2
                        colors[3, j] += w * g3
                    for c in range(u64(0), beyond, u64(4)):
                        for j in range(16):
                            more[c, j] += weight[j] * g_more[c, r, j]
                            more[c + u64(1), j] += weight[j] * g_more[c + u64(1), r, j]
                            more[c + u64(2), j] += weight[j] * g_more[c + u64(2), r, j]
                            more[c + u64(3), j] += weight[j] * g_more[c + u64(3), r, j]
                for j in range(16):
                    u, dy = dx[j] + k * dy0[j], dy0[j]
                    g, gm, gmm = moments[0, j], TWO * moments[1, j], FOUR * moments[2, j]
                    gu, gv, gmu = u * g + k * gm, dy * g + gm, u * gm + k * gmm
                    geometry[0, j] = g
                    geometry[1, j] = gu
                    geometry[2, j] = u * gu + k * gmu
                    geometry[3, j] = gv
                    geometry[4, j] = dy * gu + gmu
                    geometry[5, j] = dy * gv + (dy * gm + gmm)
                for c in range(4):
                    for j in range(16):
                        geometry[6 + c, j] = colors[c, j]
                sum_lanes(geometry, 10, sums, slot, 0)
                if padded > 4:
                    sum_lanes(more, 16, sums, slot, 10)
                if padded > 20:
                    sum_lanes(more[16:], 12, sums, slot, 26)
