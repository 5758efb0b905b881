"""The inner kernel: front-to-back compositing of each tile.

A splat is one row of `splats` [N, 16+] float32: centre x, y; a / 16, k, q / 16; -ln(opacity) / 8; half extent in y;
then its channels, padded with zeros to a multiple of four. At an offset (dx, dy) from the centre, with u = dx + k dy,
its alpha is exp(-8 t), t = a/16 u^2 + q/16 dy^2 - ln(opacity)/8: the conic in L D L^T form, which cannot turn negative
by cancellation, scaled for `exp_minus_eight`.

One vector of 16 pixels, two rows of a tile that is 8 pixels wide, is worked on at a time, and only the vectors that
the splat's alpha >= 1/255 ellipse meets. The first four channels ride in the main loop (a fourth beside three costs
next to nothing); more are handled four at a time. Bodies that large stay loops until the compiler looks
for vectors; smaller ones it unrolls into scalar code.
"""

import numpy as np
from numba import carray, prange

from sa0lib.lanes import FLAGS, exp_minus_eight, kernel, prefetch, stack_floats, sum_lanes
from sa0lib.rasterize.tiles import AHEAD, TILE_H, TILE_W

f32, u64 = np.float32, np.uint64
ZERO, HALF, ONE, TWO, NEVER = f32(0), f32(0.5), f32(1), f32(2), f32(-1)
FAINTEST = f32(np.log(255) / 8)  # of t: beyond it alpha is under 1/255, and skipped
ALPHA_MAX = f32(0.999)  # stronger ones are capped, which stops their gradient
CLOSED = f32(1e-4)  # a pixel takes no splat that would bring its transmittance to this or below
RUN = 8  # tiles side by side that go to one worker: neighbours share splats, and so the cache
MOST_CHANNELS = 32  # that the stack holds
VECTORS = TILE_H // 2
PIXELS = TILE_H * TILE_W
FOURFOLD, BEYOND = 4 * PIXELS, 28 * PIXELS  # floats for four channels, and for the most beyond them


@kernel(parallel=True, fastmath=FLAGS)
def composite_kernel(splats, offsets, entries, background, workers, image, alpha, remaining, last):
    """Fill image [H, W, D], alpha [H, W], and what the gradient needs. offsets, entries: from `bin_splats`.

    remaining [H, W]: final transmittance; last [H, W]: place in its tile's list of the last splat that met the pixel
    open.
    """
    height, width, channels = image.shape
    padded, columns = background.shape[0], (width + TILE_W - 1) // TILE_W
    beyond = u64(padded - 4)
    for worker in prange(workers):
        light = carray(stack_floats(PIXELS), (VECTORS, 16))  # transmittance so far; 0 once the pixel has closed
        rest = carray(stack_floats(PIXELS), (VECTORS, 16))  # the same, but kept when the pixel closes
        latest = carray(stack_floats(PIXELS), (VECTORS, 16))
        sums = carray(stack_floats(FOURFOLD), (4, VECTORS, 16))
        weight = carray(stack_floats(16), (16,))
        col = carray(stack_floats(16), (16,))
        row = carray(stack_floats(16), (16,))
        dx = carray(stack_floats(16), (16,))
        dy0 = carray(stack_floats(16), (16,))
        still = carray(stack_floats(16), (1, 16))  # sums of light per vector, looked at now and then
        more = carray(stack_floats(BEYOND), (28, VECTORS, 16))  # sums of the channels beyond four
        for j in range(16):
            col[j], row[j] = f32(j % 8), f32(j // 8)
        for tile in range(offsets.shape[0] - 1):
            if tile // RUN % workers != worker:
                continue
            left, top = u64((tile % columns) * TILE_W), u64((tile // columns) * TILE_H)
            rows, cols = min(u64(TILE_H), u64(height) - top), min(u64(TILE_W), u64(width) - left)
            begin, end = offsets[tile], offsets[tile + 1]
            light[:], latest[:], sums[:], more[: padded - 4], still[:] = ZERO, NEVER, ZERO, ZERO, ONE
            for r in range(rows):
                for c in range(cols):
                    light[r >> u64(1), (r & u64(1)) * u64(8) + c] = ONE  # pixels outside the image stay closed
            rest[:] = light
            for place in range(begin, end):
                i = entries[place, 0]
                prefetch(splats, entries[place + AHEAD, 0], 0)
                a, k, q, faint = splats[i, 2], splats[i, 3], splats[i, 4], splats[i, 5]
                c0, c1, c2, c3 = splats[i, 7], splats[i, 8], splats[i, 9], splats[i, 10]
                x, y = splats[i, 0] - f32(left) - HALF, splats[i, 1] - f32(top) - HALF
                number = f32(place - begin)
                for j in range(16):
                    dx[j], dy0[j] = col[j] - x, row[j] - y
                for r in range(u64(entries[place, 1]), u64(entries[place, 2])):
                    if still[0, r] == ZERO:
                        continue
                    down = TWO * f32(r)
                    for j in range(16):
                        dy = dy0[j] + down
                        u = dx[j] + k * dy
                        t = a * u * u + (q * dy * dy + faint)
                        w = min(exp_minus_eight(t), ALPHA_MAX) if t <= FAINTEST else ZERO
                        w *= light[r, j]
                        after, kept, newest = light[r, j] - w, rest[r, j], latest[r, j]
                        takes = after > CLOSED
                        w = w if takes else ZERO
                        light[r, j] = after if takes else ZERO
                        rest[r, j] = after if takes else kept
                        latest[r, j] = number if takes else newest
                        weight[j] = w
                        sums[0, r, j] += w * c0
                        sums[1, r, j] += w * c1
                        sums[2, r, j] += w * c2
                        sums[3, r, j] += w * c3
                    for c in range(u64(0), beyond, u64(4)):
                        d0, d1, d2, d3 = (
                            splats[i, c + u64(11)],
                            splats[i, c + u64(12)],
                            splats[i, c + u64(13)],
                            splats[i, c + u64(14)],
                        )
                        for j in range(16):
                            more[c, r, j] += weight[j] * d0
                            more[c + u64(1), r, j] += weight[j] * d1
                            more[c + u64(2), r, j] += weight[j] * d2
                            more[c + u64(3), r, j] += weight[j] * d3
                if (place - begin) & 15 == 15:  # looking after every splat would cost more than it saves
                    sum_lanes(light, VECTORS, still, 0, 0)
                    if still.sum() == ZERO:
                        break
            for r in range(rows):
                for c in range(cols):
                    v, j, y, x = r >> u64(1), (r & u64(1)) * u64(8) + c, top + r, left + c
                    remaining[y, x] = rest[v, j]
                    alpha[y, x] = ONE - rest[v, j]
                    last[y, x] = latest[v, j]
                    for n in range(min(u64(4), u64(channels))):
                        image[y, x, n] = sums[n, v, j] + rest[v, j] * background[n]
                    for n in range(u64(4), u64(channels)):
                        image[y, x, n] = more[n - u64(4), v, j] + rest[v, j] * background[n]
