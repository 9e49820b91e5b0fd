"""The compiled sweep of `batched`: the fixed-step solve of up to 64 samples of one seed, the cross-entropy of their
final states, and the reverse sweep through the same steps. `sweeps` is what Python calls; nothing here is random.

Shapes: B samples of a sweep, d the dimension, W the width of the hidden layers, D the length of the dense vector of
all parameters, A1 (d, W), b1, A2 (W, W), b2, A3' (d, W), b3, Wc (classes, d), bc, one after the other.
"""

from __future__ import annotations

import numpy as np

from reprod import compiled

RELU, LEAKY_RELU, SIGMOID = range(3)  # codes of the activations


@compiled.part
def _activate(h, bias, activation):
    """h <- act(h + bias), row by row."""
    zero, one, leak = h.dtype.type(0), h.dtype.type(1), h.dtype.type(0.01)
    for b in range(h.shape[0]):
        if activation == RELU:
            for k in range(h.shape[1]):
                value = h[b, k] + bias[k]
                h[b, k] = zero if value <= zero else value  # a nan stays
        elif activation == LEAKY_RELU:
            for k in range(h.shape[1]):
                value = h[b, k] + bias[k]
                h[b, k] = value * (one if value > zero else leak)
        else:
            for k in range(h.shape[1]):
                h[b, k] = one / (one + np.exp(-h[b, k] - bias[k]))


@compiled.part
def _slope(g, h, activation):
    """g <- g act'(.), from the activation's output h."""
    zero, one, leak = h.dtype.type(0), h.dtype.type(1), h.dtype.type(0.01)
    for b in range(h.shape[0]):
        if activation == RELU:
            for k in range(h.shape[1]):
                g[b, k] = g[b, k] if h[b, k] > zero else zero
        elif activation == LEAKY_RELU:
            for k in range(h.shape[1]):
                g[b, k] *= one if h[b, k] > zero else leak
        else:
            for k in range(h.shape[1]):
                g[b, k] *= h[b, k] * (one - h[b, k])


@compiled.part
def _spread(z, matrix, out):
    """out <- z matrix for (B, d) and (d, W), d >= 2: few rows, so that a loop along W is faster than a product."""
    for b in range(z.shape[0]):
        for k in range(out.shape[1]):
            out[b, k] = z[b, 0] * matrix[0, k] + z[b, 1] * matrix[1, k]
        for i in range(2, z.shape[1]):
            for k in range(out.shape[1]):
                out[b, k] += z[b, i] * matrix[i, k]


@compiled.part
def _gather(h, matrix, out):
    """out <- h matrix' for (B, W) and (d, W)."""
    for b in range(h.shape[0]):
        for i in range(out.shape[1]):
            total = h.dtype.type(0)
            for k in range(h.shape[1]):
                total += h[b, k] * matrix[i, k]
            out[b, i] = total


@compiled.part
def _scale(factor, z, out):
    """out <- factor z."""
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            out[b, i] = factor * z[b, i]


@compiled.part
def _combine(z, factor, k, out):
    """out <- z + factor k."""
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            out[b, i] = z[b, i] + factor * k[b, i]


@compiled.part
def _add(total, h):
    """total <- total + sum over the rows of h, four at a time: one after the other would wait for the last sum."""
    fours = len(h) // 4 * 4
    for b in range(0, fours, 4):
        for k in range(h.shape[1]):
            total[k] += (h[b, k] + h[b + 1, k]) + (h[b + 2, k] + h[b + 3, k])
    for b in range(fours, len(h)):
        for k in range(h.shape[1]):
            total[k] += h[b, k]


@compiled.part
def _add_products(total, z, h):
    """total <- total + z' h for (B, d) and (B, W)."""
    fours = len(h) // 4 * 4
    for i in range(z.shape[1]):
        for b in range(0, fours, 4):
            for k in range(h.shape[1]):
                total[i, k] += (z[b, i] * h[b, k] + z[b + 1, i] * h[b + 1, k]) + (
                    z[b + 2, i] * h[b + 2, k] + z[b + 3, i] * h[b + 3, k]
                )
        for b in range(fours, len(h)):
            for k in range(h.shape[1]):
                total[i, k] += z[b, i] * h[b, k]


@compiled.part
def _cross_entropy(z, y, count, batch, weight, bias, grad_weight, grad_bias, slope):
    """Sum over the first `count` rows of the cross-entropy / batch, and hits; adds to the classifier's gradient, and
    sets the gradient with respect to z. The other rows are padding."""
    loss, correct = z.dtype.type(0), 0
    p = np.empty(len(bias), z.dtype)
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            slope[b, i] = z.dtype.type(0)
    for b in range(count):
        for c in range(len(bias)):
            p[c] = bias[c]
            for i in range(z.shape[1]):
                p[c] += z[b, i] * weight[c, i]
        best = 0
        for c in range(1, len(bias)):
            if p[c] > p[best]:
                best = c
        correct += best == y[b]
        shift, total, right = p[best], z.dtype.type(0), p[y[b]]
        for c in range(len(bias)):
            p[c] = np.exp(p[c] - shift)
            total += p[c]
        loss += (np.log(total) - (right - shift)) / batch
        for c in range(len(bias)):
            p[c] /= total
            if c == y[b]:
                p[c] -= z.dtype.type(1)
            residual = p[c] / batch
            grad_bias[c] += residual
            for i in range(z.shape[1]):
                grad_weight[c, i] += residual * z[b, i]
                slope[b, i] += residual * weight[c, i]
    return loss, correct


@compiled.part
def _clear(a):
    for i in range(len(a)):
        a[i] = a.dtype.type(0)


@compiled.part
def _parts(dense, d, w, n_classes):
    """A1, b1, A2, b2, A3', b3, Wc, bc as views of the dense vector."""
    i = d * w
    j = i + w
    k = j + w * w
    m = k + w
    n = m + d * w
    o = n + d
    p = o + n_classes * d
    return (
        dense[:i].reshape(d, w), dense[i:j], dense[j:k].reshape(w, w), dense[k:m],
        dense[m:n].reshape(d, w), dense[n:o], dense[o:p].reshape(n_classes, d), dense[p : p + n_classes],
    )  # fmt: skip


@compiled.part
def _sweep(x, y, batch, dense, rk_a, rk_b, lengths, width, n_classes, activation, ys, h2s, small, wide, gradient):
    """Forward and back for the samples x (<= columns, d) of one seed; sets `gradient`, laid out as `dense`."""
    count, d, w, stages = len(x), x.shape[1], width, len(rk_b)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    a1, b1, a2, b2, a3, b3, weight, bias = _parts(dense, d, w, n_classes)
    _clear(gradient)
    grad_a1, grad_b1, grad_a2, grad_b2, grad_a3, grad_b3, grad_weight, grad_bias = _parts(gradient, d, w, n_classes)
    k, gy, slope, gk = small[:stages], small[stages : 2 * stages], small[2 * stages], small[2 * stages + 1]
    h1, g1, g2 = wide[0], wide[1], wide[2]
    a2t, product = np.empty((w, w), x.dtype), np.empty((w, w), x.dtype)
    for r in range(w):
        for c in range(w):
            a2t[r, c] = a2[c, r]

    for b in range(ys.shape[1]):
        for i in range(d):
            ys[0, b, i] = x[b, i] if b < count else zero
    e = 0
    for n in range(len(lengths)):
        z = ys[e]
        for i in range(stages):
            if i:
                _scale(one, z, ys[e])
                for j in range(i):
                    if rk_a[i, j] != 0:
                        _combine(ys[e], x.dtype.type(lengths[n] * rk_a[i, j]), k[j], ys[e])
            _spread(ys[e], a1, h1)
            _activate(h1, b1, activation)
            np.dot(h1, a2, h2s[e])
            _activate(h2s[e], b2, activation)
            _gather(h2s[e], a3, k[i])
            for b in range(k.shape[1]):
                for c in range(d):
                    k[i, b, c] += b3[c]
            e += 1
        _scale(one, z, ys[e])
        for i in range(stages):
            if rk_b[i] != 0:
                _combine(ys[e], x.dtype.type(lengths[n] * rk_b[i]), k[i], ys[e])

    loss, correct = _cross_entropy(ys[e], y, count, x.dtype.type(batch), weight, bias, grad_weight, grad_bias, slope)

    for n in range(len(lengths) - 1, -1, -1):
        for i in range(stages - 1, -1, -1):
            e -= 1
            _scale(x.dtype.type(lengths[n] * rk_b[i]), slope, gk)
            for j in range(i + 1, stages):
                if rk_a[j, i] != 0:
                    _combine(gk, x.dtype.type(lengths[n] * rk_a[j, i]), gy[j], gk)
            _add(grad_b3, gk)
            _add_products(grad_a3, gk, h2s[e])
            _spread(gk, a3, g2)
            _slope(g2, h2s[e], activation)
            _add(grad_b2, g2)
            _spread(ys[e], a1, h1)  # cheaper again than from memory
            _activate(h1, b1, activation)
            np.dot(h1.T, g2, product)
            for r in range(w):
                for c in range(w):
                    grad_a2[r, c] += product[r, c]
            np.dot(g2, a2t, g1)
            _slope(g1, h1, activation)
            _add(grad_b1, g1)
            _add_products(grad_a1, ys[e], g1)
            _gather(g1, a1, gy[i])
        for i in range(stages):
            _combine(slope, one, gy[i], slope)
    return loss, correct


@compiled.kernel
def sweeps(
    thread, threads, x, y, dense, rk_a, rk_b, lengths, width, n_classes, activation,
    ys, h2s, small, wide, gradient, loss, correct,
):  # fmt: skip
    """One thread's share of x (S, B, d), y (S, B), dense (S, D) -> gradient (S, chunks, D + 1), loss (S, chunks)."""
    chunks, columns = loss.shape[1], ys.shape[2]
    for task in range(thread, loss.size, threads):
        s, c = task // chunks, task % chunks
        first, last = c * columns, min((c + 1) * columns, x.shape[1])
        loss[s, c], correct[s, c] = _sweep(
            x[s, first:last], y[s, first:last], x.shape[1], dense[s], rk_a, rk_b, lengths, width, n_classes, activation,
            ys[thread], h2s[thread], small[thread], wide[thread], gradient[s, c],
        )  # fmt: skip
