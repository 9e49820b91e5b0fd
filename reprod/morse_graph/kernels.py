"""Compiled epochs of the small networks: hand-written gradients, one network at a time, free of the interpreter lock.

Each function trains or evaluates *one* network on its own flat parameter vector (`architectures`), so that the result
for a network does not depend on how many are trained beside it, nor on how many threads share them.

Order of batches and dropout masks come from SplitMix64 (Steele, Lea and Flood 2014), keyed by network, stream and
epoch: the generator has no state to save, and epoch t can be replayed without the epochs before it.
"""

from __future__ import annotations

import numpy as np

from reprod.compiled import GAMMA, splitmix64, strict

BETA1, BETA2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-7)
KEEP = np.float32(1.0 / 0.75)  # inverted dropout with rate 1/4
ROW = 40  # floats per row of an activation: widest map (28) + a kernel, in whole vectors of 8
SIDE = 30

_LOW32 = np.uint64(0xFFFFFFFF)


@strict
def _shuffle(order, key, epoch):
    """Fisher-Yates with Lemire's multiply-shift bound (bias below 2^-18 for 12,665 samples)."""
    counter = splitmix64(key + np.uint64(epoch) * GAMMA)
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        counter += GAMMA
        j = np.int64(((splitmix64(counter) & _LOW32) * np.uint64(i + 1)) >> np.uint64(32))
        order[i], order[j] = order[j], order[i]


@strict
def _adam(w, m, v, g, step, rate):
    """Keras's form: w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)."""
    lr = np.float32(rate * np.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step))
    one = np.float32(1.0)
    for i in range(w.size):
        m[i] = BETA1 * m[i] + (one - BETA1) * g[i]
        v[i] = BETA2 * v[i] + (one - BETA2) * g[i] * g[i]
        w[i] -= lr * m[i] / (np.sqrt(v[i]) + EPSILON)


# ---- dense, softmax layers


@strict
def _dense_forward(x, w, widths, act):
    """Softmax after every layer; act[l, :widths[l]] is the output of layer l, act[0] the input. Returns logsumexp and
    leaves the last logits in act[len(widths)]."""
    for i in range(widths[0]):
        act[0, i] = x[i]
    start = 0
    top = np.float32(0.0)
    total = np.float32(0.0)
    last = widths.size
    for layer in range(1, widths.size):
        n, k = widths[layer - 1], widths[layer]
        bias = start + n * k
        top = np.float32(-np.inf)
        for j in range(k):
            z = w[bias + j]
            for i in range(n):
                z += act[layer - 1, i] * w[start + i * k + j]
            act[last, j] = z
            top = max(top, z)
        total = np.float32(0.0)
        for j in range(k):
            e = np.exp(act[last, j] - top)
            act[layer, j] = e
            total += e
        for j in range(k):
            act[layer, j] /= total
        start = bias + k
    return top + np.log(total)


@strict
def _dense_backward(label, scale, w, widths, act, delta, g):
    """Adds scale * d(cross-entropy)/dw to g; delta is scratch of two rows."""
    last = widths.size - 1
    start = w.size
    for j in range(widths[last]):
        delta[0, j] = scale * act[last, j]
    delta[0, label] -= scale
    for layer in range(last, 0, -1):
        n, k = widths[layer - 1], widths[layer]
        bias = start - k
        start = bias - n * k
        for j in range(k):
            g[bias + j] += delta[0, j]
        for i in range(n):
            back = np.float32(0.0)
            for j in range(k):
                g[start + i * k + j] += act[layer - 1, i] * delta[0, j]
                back += w[start + i * k + j] * delta[0, j]
            delta[1, i] = back
        if layer > 1:  # through the softmax: dz = a (da - <a, da>)
            inner = np.float32(0.0)
            for i in range(n):
                inner += act[layer - 1, i] * delta[1, i]
            for i in range(n):
                delta[0, i] = act[layer - 1, i] * (delta[1, i] - inner)


@strict
def dense_epochs(w, m, v, key, first, epochs, x, y, widths, batch, rate):
    """`epochs` epochs after `first` finished ones, in place. w, m, v (P,); x (n, inputs); y (n,).

    Returns the mean training loss of each epoch (epochs,), measured on the way.
    """
    n = y.size
    order = np.empty(n, np.int64)
    act = np.zeros((widths.size + 1, widths.max()), np.float32)
    delta = np.zeros((2, widths.max()), np.float32)
    g = np.zeros_like(w)
    losses = np.zeros(epochs)
    step = first * ((n + batch - 1) // batch)
    for e in range(epochs):
        _shuffle(order, key, first + e)
        for begin in range(0, n, batch):
            end = min(begin + batch, n)
            scale = np.float32(1.0) / np.float32(end - begin)
            g[:] = np.float32(0.0)
            for s in range(begin, end):
                i = order[s]
                log_total = _dense_forward(x[i], w, widths, act)
                losses[e] += log_total - act[widths.size, y[i]]
                _dense_backward(y[i], scale, w, widths, act, delta, g)
            step += 1
            _adam(w, m, v, g, step, rate)
        losses[e] /= n
    return losses


@strict
def dense_predict(w, x, y, widths, prob):
    """Class probabilities into prob (n, C); returns the mean cross-entropy."""
    act = np.zeros((widths.size + 1, widths.max()), np.float32)
    loss = 0.0
    for i in range(y.size):
        log_total = _dense_forward(x[i], w, widths, act)
        loss += log_total - act[widths.size, y[i]]
        for j in range(prob.shape[1]):
            prob[i, j] = act[widths.size - 1, j]
    return loss / y.size


# ---- convolutions, pooling, two classes


@strict
def _vectors(extent):
    """Row length rounded up to whole vectors of 8; the surplus lanes compute numbers that nobody reads."""
    return (extent + 7) // 8 * 8


@strict
def _conv_first(image, w, extent, out):
    """out[c, y, x] = b_c + sum_{i,j} image[y+i, x+j] k[i, j, 0, c] for both channels."""
    n = _vectors(extent)
    for c in range(2):
        k0, k1, k2 = w[c], w[2 + c], w[4 + c]
        k3, k4, k5 = w[6 + c], w[8 + c], w[10 + c]
        k6, k7, k8 = w[12 + c], w[14 + c], w[16 + c]
        b = w[18 + c]
        for y in range(extent):
            for x in range(n):
                s = b + k0 * image[y, x] + k1 * image[y, x + 1] + k2 * image[y, x + 2]
                s += k3 * image[y + 1, x] + k4 * image[y + 1, x + 1] + k5 * image[y + 1, x + 2]
                s += k6 * image[y + 2, x] + k7 * image[y + 2, x + 1] + k8 * image[y + 2, x + 2]
                out[c, y, x] = s


@strict
def _conv_next(a, w, start, extent, out):
    """The same from two channels (ReLU already applied to `a`); kernel (3, 3, 2, 2) at w[start:], bias after it."""
    n = _vectors(extent)
    for c in range(2):
        b = w[start + 36 + c]
        for y in range(extent):
            for x in range(n):
                out[c, y, x] = b
            for d in range(2):
                q = start + 2 * d + c
                k0, k1, k2 = w[q], w[q + 4], w[q + 8]
                k3, k4, k5 = w[q + 12], w[q + 16], w[q + 20]
                k6, k7, k8 = w[q + 24], w[q + 28], w[q + 32]
                for x in range(n):
                    s = k0 * a[d, y, x] + k1 * a[d, y, x + 1] + k2 * a[d, y, x + 2]
                    s += k3 * a[d, y + 1, x] + k4 * a[d, y + 1, x + 1] + k5 * a[d, y + 1, x + 2]
                    s += k6 * a[d, y + 2, x] + k7 * a[d, y + 2, x + 1] + k8 * a[d, y + 2, x + 2]
                    out[c, y, x] += s


@strict
def _relu(a, extent):
    n = _vectors(extent)
    for c in range(2):
        for y in range(extent):
            for x in range(n):
                a[c, y, x] = max(a[c, y, x], np.float32(0.0))


@strict
def _pool(a, pooled, best, where, value, py, px):
    """Max over 7x7 windows, first maximum in row-major order; the ReLU commutes with it and is applied here.

    value[u], py[u], px[u] for unit u = (row * pooled + column) * 2 + channel.
    """
    n = _vectors(7 * pooled)
    for c in range(2):
        for i in range(pooled):
            for x in range(n):
                best[x] = a[c, 7 * i, x]
                where[x] = np.int32(0)
            for r in range(1, 7):
                for x in range(n):
                    new, old = a[c, 7 * i + r, x], best[x]
                    best[x] = new if new > old else old
                    where[x] = np.int32(r) if new > old else where[x]
            for j in range(pooled):
                at = 7 * j
                for x in range(7 * j + 1, 7 * j + 7):
                    if best[x] > best[at] or (best[x] == best[at] and where[x] < where[at]):
                        at = x
                u = (i * pooled + j) * 2 + c
                value[u] = max(best[at], np.float32(0.0))
                py[u] = 7 * i + where[at]
                px[u] = at


@strict
def _conv_features(image, w, convolutions, padded, acts, best, where, value, py, px):
    """Pooled features of one image (28, 28) and where each maximum lies; only the pixels that the pooling reads."""
    pooled = (28 - 2 * convolutions) // 7
    last = 7 * pooled
    extent = last + 2 * convolutions
    for y in range(extent):
        for x in range(28):
            padded[y, x] = image[y, x]
    extent -= 2
    _conv_first(padded, w, extent, acts[0])
    start = 20
    for layer in range(1, convolutions):
        _relu(acts[layer - 1], extent)
        extent -= 2
        _conv_next(acts[layer - 1], w, start, extent, acts[layer])
        start += 38
    _pool(acts[convolutions - 1], pooled, best, where, value, py, px)
    return start


@strict
def _conv_backward(delta, convolutions, start, padded, acts, deltas, value, py, px, keep, w, g):
    """Adds to g the gradient of everything before the pooled features.

    delta[u] is the gradient on feature u before dropout. Only the pooled maxima carry a gradient, so it is scattered
    through the convolutions instead of convolved.
    """
    units = value.size
    layer = convolutions - 1
    for u in range(units):
        if not keep[u] or not value[u] > 0:
            continue
        d, c, y0, x0 = delta[u], u % 2, py[u], px[u]
        if layer == 0:
            g[18 + c] += d
            for i in range(3):
                for j in range(3):
                    g[(i * 3 + j) * 2 + c] += d * padded[y0 + i, x0 + j]
        else:
            deltas[layer, c, y0, x0] += d
    offset = start - 38
    extent = 7 * ((28 - 2 * convolutions) // 7)
    while layer > 0:
        for c in range(2):
            for y0 in range(extent):
                for x0 in range(extent):
                    d = deltas[layer, c, y0, x0]
                    if d == 0:
                        continue
                    deltas[layer, c, y0, x0] = np.float32(0.0)
                    g[offset + 36 + c] += d
                    for i in range(3):
                        for j in range(3):
                            q = offset + (i * 3 + j) * 4 + c
                            a0 = acts[layer - 1, 0, y0 + i, x0 + j]
                            a1 = acts[layer - 1, 1, y0 + i, x0 + j]
                            g[q] += d * a0
                            g[q + 2] += d * a1
                            if a0 > 0:
                                deltas[layer - 1, 0, y0 + i, x0 + j] += d * w[q]
                            if a1 > 0:
                                deltas[layer - 1, 1, y0 + i, x0 + j] += d * w[q + 2]
        layer -= 1
        offset -= 38
        extent += 2
    if convolutions > 1:
        for c in range(2):
            for y0 in range(extent):
                for x0 in range(extent):
                    d = deltas[0, c, y0, x0]
                    if d == 0:
                        continue
                    deltas[0, c, y0, x0] = np.float32(0.0)
                    g[18 + c] += d
                    for i in range(3):
                        for j in range(3):
                            g[(i * 3 + j) * 2 + c] += d * padded[y0 + i, x0 + j]


@strict
def _logits(w, start, value, keep, scale, z):
    for k in range(2):
        s = w[start + 2 * value.size + k]
        for u in range(value.size):
            if keep[u]:
                s += scale * value[u] * w[start + 2 * u + k]
        z[k] = s
    top = max(z[0], z[1])
    return top + np.log(np.exp(z[0] - top) + np.exp(z[1] - top))


@strict
def conv_epochs(w, m, v, key, mask_key, first, epochs, x, y, convolutions, batch, rate):
    """`epochs` epochs after `first` finished ones, in place. w, m, v (P,); x (n, 28, 28); y (n,).

    Dropout bits of sample i in epoch t are those of counter (t, i): they do not depend on the batch size.
    Returns the mean training loss of each epoch (epochs,), dropout included.
    """
    n = y.size
    units = 2 * ((28 - 2 * convolutions) // 7) ** 2
    order = np.empty(n, np.int64)
    padded = np.zeros((SIDE, ROW), np.float32)
    acts = np.zeros((convolutions, 2, SIDE, ROW), np.float32)
    deltas = np.zeros((convolutions, 2, SIDE, ROW), np.float32)
    best, where = np.zeros(ROW, np.float32), np.zeros(ROW, np.int32)
    value, delta = np.zeros(units, np.float32), np.zeros(units, np.float32)
    py, px = np.zeros(units, np.int64), np.zeros(units, np.int64)
    keep = np.ones(units, np.bool_)
    z = np.zeros(2, np.float32)
    g = np.zeros_like(w)
    losses = np.zeros(epochs)
    step = first * ((n + batch - 1) // batch)
    for e in range(epochs):
        _shuffle(order, key, first + e)
        masks = splitmix64(mask_key + np.uint64(first + e) * GAMMA)
        for begin in range(0, n, batch):
            end = min(begin + batch, n)
            share = np.float32(1.0) / np.float32(end - begin)
            g[:] = np.float32(0.0)
            for s in range(begin, end):
                i = order[s]
                # two bits for each unit: dropped with probability 1/4
                bits = splitmix64(masks + np.uint64(i + 1) * GAMMA)
                for u in range(units):
                    keep[u] = (bits & np.uint64(3)) != np.uint64(0)
                    bits >>= np.uint64(2)
                start = _conv_features(x[i], w, convolutions, padded, acts, best, where, value, py, px)
                log_total = _logits(w, start, value, keep, KEEP, z)
                losses[e] += log_total - z[y[i]]
                d0, d1 = share * np.exp(z[0] - log_total), share * np.exp(z[1] - log_total)
                if y[i] == 0:
                    d0 -= share
                else:
                    d1 -= share
                g[start + 2 * units] += d0
                g[start + 2 * units + 1] += d1
                for u in range(units):
                    if keep[u]:
                        g[start + 2 * u] += KEEP * value[u] * d0
                        g[start + 2 * u + 1] += KEEP * value[u] * d1
                        delta[u] = KEEP * (w[start + 2 * u] * d0 + w[start + 2 * u + 1] * d1)
                _conv_backward(delta, convolutions, start, padded, acts, deltas, value, py, px, keep, w, g)
            step += 1
            _adam(w, m, v, g, step, rate)
        losses[e] /= n
    return losses


@strict
def conv_predict(w, x, y, convolutions, prob):
    """Class probabilities without dropout into prob (n, 2); returns the mean cross-entropy."""
    units = 2 * ((28 - 2 * convolutions) // 7) ** 2
    padded = np.zeros((SIDE, ROW), np.float32)
    acts = np.zeros((convolutions, 2, SIDE, ROW), np.float32)
    best, where = np.zeros(ROW, np.float32), np.zeros(ROW, np.int32)
    value = np.zeros(units, np.float32)
    py, px = np.zeros(units, np.int64), np.zeros(units, np.int64)
    keep = np.ones(units, np.bool_)
    z = np.zeros(2, np.float32)
    loss = 0.0
    for i in range(y.size):
        start = _conv_features(x[i], w, convolutions, padded, acts, best, where, value, py, px)
        log_total = _logits(w, start, value, keep, np.float32(1.0), z)
        loss += log_total - z[y[i]]
        prob[i, 0] = np.exp(z[0] - log_total)
        prob[i, 1] = np.exp(z[1] - log_total)
    return loss / y.size
