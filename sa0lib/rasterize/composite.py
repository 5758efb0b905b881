"""The two inner kernels: front-to-back compositing of each tile, and its analytic gradient.

A splat is one row of `splats` [K, 8 + P] float32, in depth order: centre x, y; a / 2, k, q / 2; half extent in y;
opacity; half extent in x; then its channels, padded with zeros to a multiple of four. At an offset (dx, dy) from
the centre, with u = dx + k dy, its alpha is opacity * exp(-(a u^2 + q dy^2) / 2): the conic in L D L^T form, which
cannot turn negative by cancellation.

One vector of 16 pixels (a row of the tile) is worked on at a time, and only the rows that the splat's
alpha >= 1/255 ellipse reaches. The first four channels ride in the main loop; more are handled four at a time
(bodies that large stay loops until the compiler looks for vectors; smaller ones it unrolls into scalar code).
"""

import numpy as np
from numba import carray, prange

from sa0lib.rasterize.lanes import TILE, exp_negative, kernel, prefetch, stack_floats

f32 = np.float32
ZERO, HALF, ONE, NEVER = f32(0), f32(0.5), f32(1), f32(-1)
ALPHA_MIN = f32(1 / 255)  # fainter contributions are skipped
ALPHA_MAX = f32(0.999)  # stronger ones are capped, which stops their gradient
CLOSED = f32(1e-4)  # a pixel takes no splat that would bring its transmittance to this or below
UP = f32(0.9999)  # int(v + UP) is at most ceil(v); a row too many is harmless, its alphas are under 1/255
AHEAD = 6  # list entries between asking for a splat and using it


@kernel(parallel=True, fastmath=True)
def composite_kernel(splats, offsets, ids, schedule, background, workers, image, alpha, remaining, last):
    """Fill image [H, W, D], alpha [H, W], and what the gradient needs.

    remaining [H, W]: final transmittance; last [H, W]: place in its tile's list of the last splat a pixel took.
    schedule: tile numbers in the order they are dealt to the workers.
    """
    height, width, channels = image.shape
    padded, columns = splats.shape[1] - 8, (width + TILE - 1) // TILE
    for worker in prange(workers):
        light = carray(stack_floats(256), (16, 16))  # transmittance so far; negative once the pixel has closed
        latest = carray(stack_floats(256), (16, 16))
        sums = carray(stack_floats(1024), (4, 16, 16))
        weight = carray(stack_floats(16), (16,))
        is_open = carray(stack_floats(16), (16,))
        more = np.empty(max(padded - 4, 0) * 256, np.float32)  # sums of the channels beyond four
        for turn in range(worker, schedule.shape[0], workers):
            tile = schedule[turn]
            left, top = (tile % columns) * TILE, (tile // columns) * TILE
            rows, cols = min(TILE, height - top), min(TILE, width - left)
            begin, end = offsets[tile], offsets[tile + 1]
            light[:], latest[:], sums[:], more[:], is_open[:] = ONE, NEVER, ZERO, ZERO, ONE
            for place in range(begin, end):
                i, ahead = ids[place], ids[place + AHEAD]
                prefetch(splats, ahead, 0)
                prefetch(splats, ahead, 11)
                half_a, k, half_q, opacity = splats[i, 2], splats[i, 3], splats[i, 4], splats[i, 6]
                c0, c1, c2, c3 = splats[i, 8], splats[i, 9], splats[i, 10], splats[i, 11]
                x, y, reach = splats[i, 0] - f32(left) - HALF, splats[i, 1] - f32(top) - HALF, splats[i, 5]
                number = f32(place - begin)
                first = np.uint64(max(y - reach, ZERO) + UP)
                stop = np.uint64(min(max(y + reach + ONE, ZERO), f32(rows)))
                for r in range(first, stop):
                    if is_open[r] == ZERO:
                        continue
                    dy = f32(r) - y
                    shift, across = k * dy - x, half_q * dy * dy
                    for j in range(16):
                        u = shift + f32(j)
                        a = opacity * exp_negative(half_a * u * u + across)
                        a = min(a, ALPHA_MAX) if a >= ALPHA_MIN else ZERO
                        before = light[r, j]
                        w = a * max(before, ZERO)
                        after = before - w
                        takes = after > CLOSED
                        w = w if takes else ZERO
                        light[r, j] = after if takes else -abs(before)
                        newest = latest[r, j]
                        latest[r, j] = number if w > ZERO else newest
                        weight[j] = w
                        sums[0, r, j] += w * c0
                        sums[1, r, j] += w * c1
                        sums[2, r, j] += w * c2
                        sums[3, r, j] += w * c3
                    for c in range(4, padded, 4):
                        d0, d1, d2, d3 = splats[i, 8 + c], splats[i, 9 + c], splats[i, 10 + c], splats[i, 11 + c]
                        at = np.uint64((c - 4) * 256 + r * 16)
                        for j in range(16):
                            more[at + np.uint64(j)] += weight[j] * d0
                            more[at + np.uint64(j + 256)] += weight[j] * d1
                            more[at + np.uint64(j + 512)] += weight[j] * d2
                            more[at + np.uint64(j + 768)] += weight[j] * d3
                if (place - begin) & 7 == 7:  # looking after every splat would cost more than it saves
                    still_open = ZERO
                    for r in range(16):
                        is_open[r] = ZERO
                        for j in range(16):
                            is_open[r] += ONE if light[r, j] > ZERO else ZERO
                        still_open += is_open[r] if r < rows else ZERO
                    if still_open == ZERO:
                        break
            for r in range(rows):
                for j in range(cols):
                    rest = abs(light[r, j])
                    remaining[top + r, left + j] = rest
                    alpha[top + r, left + j] = ONE - rest
                    last[top + r, left + j] = latest[r, j]
                    for c in range(min(4, channels)):
                        image[top + r, left + j, c] = sums[c, r, j] + rest * background[c]
                    for c in range(4, channels):
                        image[top + r, left + j, c] = more[(c - 4) * 256 + r * 16 + j] + rest * background[c]


@kernel(parallel=True, fastmath=True)
def composite_gradient(splats, offsets, ids, schedule, background, workers, remaining, last, g_image, g_alpha, entries):
    """Fill entries [M, 6 + P]: per list entry, sums over the pixels of its tile.

    With g = dL/dalpha * G (G: the Gaussian without its opacity; zero where alpha is capped), the columns are the
    sums of g, g u, g u^2, g dy, g u dy, g dy^2, then of weight * dL/dC per channel.

    Back to front: transmittance is rebuilt by division, and `behind` holds what all later splats and the
    background contribute to the pixel's loss, so that dL/dalpha_i = T_i (c_i . dL/dC) - behind / (1 - alpha_i).
    Entries after a pixel's last one are masked: without that the division runs away on deep overlap.
    """
    height, width, channels = g_image.shape
    padded, columns = splats.shape[1] - 8, (width + TILE - 1) // TILE
    for worker in prange(workers):
        light = carray(stack_floats(256), (16, 16))
        latest = carray(stack_floats(256), (16, 16))
        behind = carray(stack_floats(256), (16, 16))
        g_color = carray(stack_floats(1024), (4, 16, 16))
        geometry = carray(stack_floats(96), (6, 16))
        colors = carray(stack_floats(64), (4, 16))
        pull = carray(stack_floats(64), (4, 16))  # c_i . dL/dC over the channels beyond four, in four parts
        weight = carray(stack_floats(16), (16,))
        row_last = carray(stack_floats(16), (16,))
        g_more = np.zeros(max(padded - 4, 0) * 256, np.float32)
        more = np.empty(max(padded - 4, 0) * 16, np.float32)
        for turn in range(worker, schedule.shape[0], workers):
            tile = schedule[turn]
            begin, end = offsets[tile], offsets[tile + 1]
            if begin == end:
                continue
            left, top = (tile % columns) * TILE, (tile // columns) * TILE
            rows, cols = min(TILE, height - top), min(TILE, width - left)
            light[:], latest[:], behind[:], g_color[:] = ONE, NEVER, ZERO, ZERO
            row_last[:], tile_last = NEVER, NEVER
            for r in range(rows):
                for j in range(cols):
                    light[r, j] = remaining[top + r, left + j]
                    latest[r, j] = last[top + r, left + j]
                    row_last[r] = max(row_last[r], latest[r, j])
                    g = -g_alpha[top + r, left + j]
                    for c in range(min(4, channels)):
                        g_color[c, r, j] = g_image[top + r, left + j, c]
                        g += g_color[c, r, j] * background[c]
                    for c in range(4, channels):
                        g_more[(c - 4) * 256 + r * 16 + j] = g_image[top + r, left + j, c]
                        g += g_image[top + r, left + j, c] * background[c]
                    behind[r, j] = g * light[r, j]
                tile_last = max(tile_last, row_last[r])
            for place in range(end - 1, begin - 1, -1):
                number = f32(place - begin)
                if number > tile_last:
                    entries[place, :] = ZERO
                    continue
                i, ahead = ids[place], ids[max(place - AHEAD, 0)]
                prefetch(splats, ahead, 0)
                prefetch(splats, ahead, 11)
                half_a, k, half_q, opacity = splats[i, 2], splats[i, 3], splats[i, 4], splats[i, 6]
                c0, c1, c2, c3 = splats[i, 8], splats[i, 9], splats[i, 10], splats[i, 11]
                x, y, reach = splats[i, 0] - f32(left) - HALF, splats[i, 1] - f32(top) - HALF, splats[i, 5]
                first = np.uint64(max(y - reach, ZERO) + UP)
                stop = np.uint64(min(max(y + reach + ONE, ZERO), f32(rows)))
                geometry[:], colors[:], pull[:], more[:] = ZERO, ZERO, ZERO, ZERO
                for r in range(first, stop):
                    if number > row_last[r]:
                        continue
                    dy = f32(r) - y
                    dy2 = dy * dy
                    shift, across = k * dy - x, half_q * dy2
                    if padded > 4:
                        pull[:] = ZERO
                    for c in range(4, padded, 4):
                        d0, d1, d2, d3 = splats[i, 8 + c], splats[i, 9 + c], splats[i, 10 + c], splats[i, 11 + c]
                        at = np.uint64((c - 4) * 256 + r * 16)
                        for j in range(16):
                            pull[0, j] += g_more[at + np.uint64(j)] * d0
                            pull[1, j] += g_more[at + np.uint64(j + 256)] * d1
                            pull[2, j] += g_more[at + np.uint64(j + 512)] * d2
                            pull[3, j] += g_more[at + np.uint64(j + 768)] * d3
                    for j in range(16):
                        u = shift + f32(j)
                        gaussian = exp_negative(half_a * u * u + across)
                        a = opacity * gaussian
                        takes = (a >= ALPHA_MIN) & (number <= latest[r, j])
                        slope = gaussian if takes & (a <= ALPHA_MAX) else ZERO
                        a = min(a, ALPHA_MAX) if takes else ZERO
                        through = ONE / (ONE - a)
                        before = light[r, j] * through
                        w = a * before
                        g0, g1, g2, g3 = g_color[0, r, j], g_color[1, r, j], g_color[2, r, j], g_color[3, r, j]
                        near = pull[0, j] + g0 * c0 + pull[1, j] + g1 * c1
                        toward = near + pull[2, j] + g2 * c2 + pull[3, j] + g3 * c3
                        g = (toward * before - behind[r, j] * through) * slope
                        behind[r, j] += w * toward
                        light[r, j] = before
                        weight[j] = w
                        geometry[0, j] += g
                        geometry[1, j] += g * u
                        geometry[2, j] += g * u * u
                        geometry[3, j] += g * dy
                        geometry[4, j] += g * u * dy
                        geometry[5, j] += g * dy2
                        colors[0, j] += w * g0
                        colors[1, j] += w * g1
                        colors[2, j] += w * g2
                        colors[3, j] += w * g3
                    for c in range(4, padded, 4):
                        at, to = np.uint64((c - 4) * 256 + r * 16), np.uint64((c - 4) * 16)
                        for j in range(16):
                            more[to + np.uint64(j)] += weight[j] * g_more[at + np.uint64(j)]
                            more[to + np.uint64(j + 16)] += weight[j] * g_more[at + np.uint64(j + 256)]
                            more[to + np.uint64(j + 32)] += weight[j] * g_more[at + np.uint64(j + 512)]
                            more[to + np.uint64(j + 48)] += weight[j] * g_more[at + np.uint64(j + 768)]
                for n in range(6):
                    total = ZERO
                    for j in range(16):
                        total += geometry[n, j]
                    entries[place, n] = total
                for c in range(4):
                    total = ZERO
                    for j in range(16):
                        total += colors[c, j]
                    entries[place, 6 + c] = total
                for c in range(4, padded):
                    total = ZERO
                    for j in range(16):
                        total += more[(c - 4) * 16 + j]
                    entries[place, 6 + c] = total
