"""Compiled LeNet with batch size one: hand-written gradients, one trial at a time, free of the interpreter lock.

    conv 5x5 (C -> 6), ReLU, maxpool 2, conv 5x5 (6 -> 16), ReLU, maxpool 2, fc 400 -> 120, ReLU, fc 84, ReLU, fc K

followed, in the rdH variant, by a frozen K x K matrix. `train` and `evaluate` work on *one* trial's flat parameters (in
the order of `LeNet.parameters()`, see `networks`), so that a trial's result does not depend on how many are trained
beside it. They are generic in the floating-point type.

Images and maps are flat, with a constant row stride: a 5x5 convolution is then 25 shifted copies of one long vector,
which the compiler turns into full-width fused multiply-adds; the surplus entries at the row ends are never read. Only
the winners of a maxpool carry a gradient (1 in 4), so the backward pass visits them alone.
"""

from __future__ import annotations

import numpy as np

from reprod import compiled

SIDE = 32
IMAGE = SIDE * SIDE + 16  # a channel of an image, flat: rows of 32, and what the last vector reads beyond
C1, C2 = 6, 16
Z1 = 28 * SIDE  # first convolution: 28 rows of 28 outputs at stride 32
POOLED = 14
A1 = POOLED * POOLED + 12
Z2 = 144  # second convolution: 10 rows of 10 outputs at stride 14, in whole vectors of 16
PATCH = C1 * 25
FEATURES, FC1, FC2 = 400, 120, 84
LANES = 16  # images that `evaluate` reads side by side


def _convolution(stride: int, spacing: int, rows: int, width: int):
    """out[width r + q] += sum_{i,j} w[at + 5 i + j] a[stride (r + i) + spacing j + q] for r < rows, q < width.

    The four numbers are compiled in.
    """
    r1, r2, r3, r4 = stride, 2 * stride, 3 * stride, 4 * stride
    c1, c2, c3, c4 = spacing, 2 * spacing, 3 * spacing, 4 * spacing

    @compiled.part
    def convolve(a, w, at, out):
        w00, w01, w02, w03, w04 = w[at], w[at + 1], w[at + 2], w[at + 3], w[at + 4]
        w10, w11, w12, w13, w14 = w[at + 5], w[at + 6], w[at + 7], w[at + 8], w[at + 9]
        w20, w21, w22, w23, w24 = w[at + 10], w[at + 11], w[at + 12], w[at + 13], w[at + 14]
        w30, w31, w32, w33, w34 = w[at + 15], w[at + 16], w[at + 17], w[at + 18], w[at + 19]
        w40, w41, w42, w43, w44 = w[at + 20], w[at + 21], w[at + 22], w[at + 23], w[at + 24]
        for r in range(rows):
            for p in range(width):
                q, to = stride * r + p, width * r + p
                s = w00 * a[q] + w01 * a[q + c1] + w02 * a[q + c2] + w03 * a[q + c3] + w04 * a[q + c4]
                q1, q2, q3, q4 = q + r1, q + r2, q + r3, q + r4
                s += w10 * a[q1] + w11 * a[q1 + c1] + w12 * a[q1 + c2] + w13 * a[q1 + c3] + w14 * a[q1 + c4]
                s += w20 * a[q2] + w21 * a[q2 + c1] + w22 * a[q2 + c2] + w23 * a[q2 + c3] + w24 * a[q2 + c4]
                s += w30 * a[q3] + w31 * a[q3 + c1] + w32 * a[q3 + c2] + w33 * a[q3 + c3] + w34 * a[q3 + c4]
                s += w40 * a[q4] + w41 * a[q4 + c1] + w42 * a[q4 + c2] + w43 * a[q4 + c3] + w44 * a[q4 + c4]
                out[to] += s

    return convolve


_conv1 = _convolution(SIDE, 1, 1, Z1)
_conv2 = _convolution(POOLED, 1, 1, Z2)
_conv1_lanes = _convolution(SIDE * LANES, LANES, 28, 28 * LANES)
_conv2_lanes = _convolution(POOLED * LANES, LANES, 10, 10 * LANES)


@compiled.part
def _pool(z, stride, side, a):
    """Maximum over 2x2 windows and ReLU; z at `stride`, a at stride `side`."""
    zero = z.dtype.type(0)
    for y in range(side):
        top, low, row = 2 * y * stride, (2 * y + 1) * stride, y * side
        for x in range(side):
            left = max(z[top + 2 * x], z[low + 2 * x])
            right = max(z[top + 2 * x + 1], z[low + 2 * x + 1])
            a[row + x] = max(max(left, right), zero)


@compiled.part
def _winner(z, stride, side, u):
    """Where in z the (first) maximum of window u lies."""
    at = 2 * (u // side) * stride + 2 * (u % side)
    best = at
    for other in (at + 1, at + stride, at + stride + 1):
        if z[other] > z[best]:
            best = other
    return best


@compiled.part
def _dense(w, at, n, m, a, out, relu):
    """out_j = sum_i W_ji a_i + b_j for j < m; returns where the next layer's parameters begin."""
    zero = w.dtype.type(0)
    for j in range(m):
        row = w[at + j * n : at + j * n + n]
        s = zero
        for i in range(n):
            s += row[i] * a[i]
        s += w[at + n * m + j]
        out[j] = max(s, zero) if relu else s
    return at + n * m + m


@compiled.part
def _through_head(raw, head, logits):
    """logits = head raw, or raw where there is no head."""
    for j in range(logits.size):
        if head.size:
            logits[j] = 0
            for i in range(logits.size):
                logits[j] += head[j, i] * raw[i]
        else:
            logits[j] = raw[j]


@compiled.part
def _forward(w, x, classes, head, z1, a1, z2, a2, h1, h2, raw, logits):
    """Logits of one image x (C, IMAGE); every intermediate map stays in its buffer."""
    channels = x.shape[0]
    bias = C1 * channels * 25
    for o in range(C1):
        z1[o, :] = w[bias + o]
        for c in range(channels):
            _conv1(x[c], w, (o * channels + c) * 25, z1[o])
        _pool(z1[o], SIDE, POOLED, a1[o])
    start = bias + C1
    bias = start + C2 * PATCH
    for o in range(C2):
        z2[o, :] = w[bias + o]
        for c in range(C1):
            _conv2(a1[c], w, start + (o * C1 + c) * 25, z2[o])
        _pool(z2[o], POOLED, 5, a2[o * 25 : o * 25 + 25])
    at = bias + C2
    at = _dense(w, at, FEATURES, FC1, a2, h1, True)
    at = _dense(w, at, FC1, FC2, h1, h2, True)
    _dense(w, at, FC2, classes, h2, raw, False)
    _through_head(raw, head, logits)


@compiled.part
def _log_sum_exp(logits):
    top = logits[0]
    for j in range(1, logits.size):
        top = max(top, logits[j])
    total = logits.dtype.type(0)
    for j in range(logits.size):
        total += np.exp(logits[j] - top)
    return top + np.log(total)


@compiled.part
def _dense_step(w, at, n, m, a, delta, lr, back):
    """back_i = sum_j W_ji delta_j with the old weights, then W_ji -= lr delta_j a_i and b_j -= lr delta_j."""
    for i in range(n):
        back[i] = 0
    for j in range(m):
        d = delta[j]
        if d == 0:
            continue
        step = lr * d
        row = w[at + j * n : at + j * n + n]
        for i in range(n):
            back[i] += d * row[i]
            row[i] -= step * a[i]
        w[at + n * m + j] -= step


@compiled.part
def _relu_back(back, a):
    for i in range(a.size):
        if not a[i] > 0:
            back[i] = 0


@compiled.part
def _conv2_step(w, start, z2, a1, d2, lr, columns, back, seen, g, d1):
    """Gradient of the second convolution from d2 (400,), that of its pooled outputs, and its update.

    Per position the patch of a1 (150,) is gathered once; a winner adds d * patch to its channel's gradient and
    d * kernel to the patch's own, which is scattered into d1 (6, A1).
    """
    zero = w.dtype.type(0)
    seen[:] = False
    g[:] = zero
    bias = start + C2 * PATCH
    for u in range(FEATURES):
        d = d2[u]
        if d == 0:
            continue
        o = u // 25
        q = _winner(z2[o], POOLED, 5, u % 25)
        patch, into = columns[q], back[q]
        if not seen[q]:
            seen[q] = True
            for c in range(C1):
                for i in range(5):
                    for j in range(5):
                        patch[c * 25 + i * 5 + j] = a1[c, q + i * POOLED + j]
            into[:] = zero
        kernel, gradient = w[start + o * PATCH : start + (o + 1) * PATCH], g[o]
        for t in range(PATCH):
            gradient[t] += d * patch[t]
            into[t] += d * kernel[t]
        w[bias + o] -= lr * d
    d1[:, :] = zero
    for q in range(Z2):
        if seen[q]:
            for c in range(C1):
                for i in range(5):
                    for j in range(5):
                        d1[c, q + i * POOLED + j] += back[q, c * 25 + i * 5 + j]
    for o in range(C2):
        kernel = w[start + o * PATCH : start + (o + 1) * PATCH]
        for t in range(PATCH):
            kernel[t] -= lr * g[o, t]


@compiled.part
def _correlate(d, a, g, at):
    """g[at + 5 i + j] += sum_q d[q] a[q + SIDE i + j]: the gradient of a kernel of the first convolution."""
    zero = d.dtype.type(0)
    g00 = g01 = g02 = g03 = g04 = zero
    g10 = g11 = g12 = g13 = g14 = zero
    g20 = g21 = g22 = g23 = g24 = zero
    g30 = g31 = g32 = g33 = g34 = zero
    g40 = g41 = g42 = g43 = g44 = zero
    for q in range(Z1):
        e = d[q]
        g00 += e * a[q]
        g01 += e * a[q + 1]
        g02 += e * a[q + 2]
        g03 += e * a[q + 3]
        g04 += e * a[q + 4]
        g10 += e * a[q + 32]
        g11 += e * a[q + 33]
        g12 += e * a[q + 34]
        g13 += e * a[q + 35]
        g14 += e * a[q + 36]
        g20 += e * a[q + 64]
        g21 += e * a[q + 65]
        g22 += e * a[q + 66]
        g23 += e * a[q + 67]
        g24 += e * a[q + 68]
        g30 += e * a[q + 96]
        g31 += e * a[q + 97]
        g32 += e * a[q + 98]
        g33 += e * a[q + 99]
        g34 += e * a[q + 100]
        g40 += e * a[q + 128]
        g41 += e * a[q + 129]
        g42 += e * a[q + 130]
        g43 += e * a[q + 131]
        g44 += e * a[q + 132]
    g[at + 0] += g00
    g[at + 1] += g01
    g[at + 2] += g02
    g[at + 3] += g03
    g[at + 4] += g04
    g[at + 5] += g10
    g[at + 6] += g11
    g[at + 7] += g12
    g[at + 8] += g13
    g[at + 9] += g14
    g[at + 10] += g20
    g[at + 11] += g21
    g[at + 12] += g22
    g[at + 13] += g23
    g[at + 14] += g24
    g[at + 15] += g30
    g[at + 16] += g31
    g[at + 17] += g32
    g[at + 18] += g33
    g[at + 19] += g34
    g[at + 20] += g40
    g[at + 21] += g41
    g[at + 22] += g42
    g[at + 23] += g43
    g[at + 24] += g44


@compiled.part
def _conv1_step(w, x, z1, a1, d1, lr, dz, g):
    """Gradient of the first convolution from d1 (6, A1), that of its pooled outputs, and its update."""
    zero = w.dtype.type(0)
    channels = x.shape[0]
    bias = C1 * channels * 25
    for o in range(C1):
        dz[:] = zero
        total = zero
        for u in range(POOLED * POOLED):
            if a1[o, u] > 0:
                d = d1[o, u]
                dz[_winner(z1[o], SIDE, POOLED, u)] = d
                total += d
        g[:] = zero
        for c in range(channels):
            _correlate(dz, x[c], g, c * 25)
        for t in range(channels * 25):
            w[o * channels * 25 + t] -= lr * g[t]
        w[bias + o] -= lr * total


@compiled.kernel
def train(w, x, y, samples, lr, head, logits):
    """SGD with batch size one over `samples`, in place (spec 2.3).

    w (P,); x (n, C, IMAGE); y (n,) labels; samples (steps,) indices into x; lr of w's type; head (K, K), frozen, or
    (0, 0); logits (steps, K) receives the logits of each sample *before* its update.
    """
    kind, classes, channels = w.dtype, logits.shape[1], x.shape[1]
    z1, a1 = np.empty((C1, Z1), kind), np.zeros((C1, A1), kind)
    z2, a2 = np.empty((C2, Z2), kind), np.empty(FEATURES, kind)
    h1, h2, raw, out = np.empty(FC1, kind), np.empty(FC2, kind), np.empty(classes, kind), np.empty(classes, kind)
    d0, dh = np.empty(classes, kind), np.empty(classes, kind)
    b2, b1, d2, d1 = np.empty(FC2, kind), np.empty(FC1, kind), np.empty(FEATURES, kind), np.empty((C1, A1), kind)
    columns, back = np.empty((Z2, PATCH), kind), np.empty((Z2, PATCH), kind)
    seen = np.empty(Z2, np.bool_)
    g2, g1, dz = np.empty((C2, PATCH), kind), np.empty(channels * 25, kind), np.empty(Z1, kind)
    conv2 = C1 * channels * 25 + C1
    fc1 = conv2 + C2 * PATCH + C2
    fc2 = fc1 + FEATURES * FC1 + FC1
    fc3 = fc2 + FC1 * FC2 + FC2
    for step in range(samples.size):
        image = x[samples[step]]
        _forward(w, image, classes, head, z1, a1, z2, a2, h1, h2, raw, out)
        total = _log_sum_exp(out)
        for k in range(classes):
            logits[step, k] = out[k]
            d0[k] = np.exp(out[k] - total)
        d0[y[samples[step]]] -= kind.type(1)
        if head.size:
            dh[:] = d0
            for i in range(classes):
                d0[i] = 0
                for j in range(classes):
                    d0[i] += head[j, i] * dh[j]
        _dense_step(w, fc3, FC2, classes, h2, d0, lr, b2)
        _relu_back(b2, h2)
        _dense_step(w, fc2, FC1, FC2, h1, b2, lr, b1)
        _relu_back(b1, h1)
        _dense_step(w, fc1, FEATURES, FC1, a2, b1, lr, d2)
        _relu_back(d2, a2)
        _conv2_step(w, conv2, z2, a1, d2, lr, columns, back, seen, g2, d1)
        _conv1_step(w, image, z1, a1, d1, lr, dz, g1)


@compiled.part
def _pool_lanes(z, side, a):
    """`_pool` of maps z (4 side^2, LANES), flat, into a (side^2, LANES), flat."""
    zero = z.dtype.type(0)
    width = 2 * side * LANES
    for y in range(side):
        for x in range(side):
            top, low, to = 2 * y * width + 2 * x * LANES, (2 * y + 1) * width + 2 * x * LANES, (y * side + x) * LANES
            for k in range(LANES):
                left, right = max(z[top + k], z[low + k]), max(z[top + LANES + k], z[low + LANES + k])
                a[to + k] = max(max(left, right), zero)


@compiled.kernel
def evaluate(w, x, y, head, classes):
    """(mean cross-entropy, accuracy) of one trial on x (blocks, C, SIDE^2 LANES) as `lanes` makes it, y (n,)."""
    kind, channels = w.dtype, x.shape[1]
    z1, a1 = np.empty(28 * 28 * LANES, kind), np.empty((C1, POOLED * POOLED * LANES), kind)
    z2, a2, features = np.empty(100 * LANES, kind), np.empty(FEATURES * LANES, kind), np.empty(FEATURES, kind)
    h1, h2, raw, out = np.empty(FC1, kind), np.empty(FC2, kind), np.empty(classes, kind), np.empty(classes, kind)
    loss, right = 0.0, 0
    for b in range(x.shape[0]):
        bias = C1 * channels * 25
        for o in range(C1):
            z1[:] = w[bias + o]
            for c in range(channels):
                _conv1_lanes(x[b, c], w, (o * channels + c) * 25, z1)
            _pool_lanes(z1, POOLED, a1[o])
        start = bias + C1
        bias = start + C2 * PATCH
        for o in range(C2):
            z2[:] = w[bias + o]
            for c in range(C1):
                _conv2_lanes(a1[c], w, start + (o * C1 + c) * 25, z2)
            _pool_lanes(z2, 5, a2[o * 25 * LANES : (o + 1) * 25 * LANES])
        for k in range(min(LANES, y.size - b * LANES)):
            for u in range(FEATURES):
                features[u] = a2[u * LANES + k]
            at = bias + C2
            at = _dense(w, at, FEATURES, FC1, features, h1, True)
            at = _dense(w, at, FC1, FC2, h1, h2, True)
            _dense(w, at, FC2, classes, h2, raw, False)
            _through_head(raw, head, out)
            label = y[b * LANES + k]
            loss += _log_sum_exp(out) - out[label]
            best = 0
            for j in range(1, classes):
                if out[j] > out[best]:
                    best = j
            right += best == label
    return loss / y.size, right / y.size


def lanes(images: np.ndarray) -> np.ndarray:
    """Images (n, C, SIDE, SIDE) in blocks of LANES side by side: (blocks, C, SIDE^2 LANES), the last one padded."""
    n, channels = images.shape[:2]
    blocks = -(-n // LANES)
    padded = np.zeros((blocks * LANES, channels, SIDE * SIDE), images.dtype)
    padded[:n] = images.reshape(n, channels, -1)
    return np.ascontiguousarray(padded.reshape(blocks, LANES, channels, -1).transpose(0, 2, 3, 1)).reshape(
        blocks, channels, -1
    )


def flat(images: np.ndarray) -> np.ndarray:
    """Images (n, C, SIDE, SIDE) as `train` reads them: (n, C, IMAGE)."""
    padded = np.zeros((*images.shape[:2], IMAGE), images.dtype)
    padded[:, :, : SIDE * SIDE] = images.reshape(*images.shape[:2], -1)
    return padded
