"""The convolutional residual network of the CIFAR-10 experiments (Marion et al. 2024, section 5 and its appendix)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprod.training import torch_stream

ACTIVATIONS = {
    "relu": nn.ReLU, "gelu": nn.GELU, "identity": nn.Identity, "tanh": nn.Tanh, "softplus": nn.Softplus,
    "leaky_relu": nn.LeakyReLU,
}  # fmt: skip


class Layer(nn.Module):
    """The residual branch b2(c2(sigma(b1(c1(h))))), which is 0 at the start."""

    def __init__(self, planes: int, sigma: str, bn: bool):
        super().__init__()
        self.c1 = nn.Conv2d(planes, planes, 3, padding=1)
        self.b1 = nn.BatchNorm2d(planes) if bn else nn.Identity()
        self.sigma = ACTIVATIONS[sigma]()
        self.c2 = nn.Conv2d(planes, planes, 3, padding=1)
        self.b2 = nn.BatchNorm2d(planes) if bn else nn.Identity()
        if isinstance(self.b2, nn.BatchNorm2d):
            nn.init.zeros_(self.b2.weight)
        else:
            nn.init.xavier_uniform_(self.c1.weight, gain=1e-4)
            nn.init.zeros_(self.c2.weight)
            nn.init.zeros_(self.c2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> Tensor:
        return self.b2(self.c2(self.sigma(self.b1(self.c1(h)))))


class ConvResnet(nn.Module):
    """Stem (5 x 5, stride 3, batch norm, ReLU), L layers h <- h + (1/L) branch(h), 4 x 4 average, linear.

    Images (n, 3, 32, 32) -> logits (n, 10). `init` "tied" copies the first layer to all others, "iid" leaves them as
    drawn; both take the same draws, from torch's default generator, for stem, head and first layer.
    """

    exportable = True

    def __init__(self, depth: int, planes: int = 16, sigma: str = "gelu", bn: bool = True, init: str = "tied"):
        super().__init__()
        if init not in ("tied", "iid"):
            raise ValueError(f"init={init}: expected tied or iid")
        self.stem = nn.Conv2d(3, planes, 5, stride=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(planes)
        self.head = nn.Linear(4 * planes, 10)
        self.layers = nn.ModuleList(Layer(planes, sigma, bn) for _ in range(depth))
        if init == "tied":
            for layer in self.layers[1:]:
                layer.load_state_dict(self.layers[0].state_dict())

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.stem(x)))
        scale = 1.0 / len(self.layers)
        for layer in self.layers:
            h = torch.add(h, layer(h), alpha=scale)
        return self.head(nn.functional.avg_pool2d(h, 4).flatten(1))


def build(seed: int, depth: int, planes: int, sigma: str, bn: bool, init: str) -> ConvResnet:
    """The network of a seed; the process's random state is left as it was. (The released code seeds nothing.)"""
    with torch.random.fork_rng(devices=[]):  # layers draw from torch's default generator: it gets the stream's state
        torch.set_rng_state(torch_stream(seed, "init").get_state())
        return ConvResnet(depth, planes, sigma, bn, init)


def convolutions(model: ConvResnet, i: int) -> Tensor:
    """The weights of convolution i = 1, 2 of every layer, flat: (L, 9 planes^2)."""
    chosen = (getattr(layer, f"c{i}") for layer in model.layers)
    return torch.stack([convolution.weight.detach().flatten() for convolution in chosen])


# -- smoothness -------------------------------------------------------------------------------------------------------


def smoothness(c: Tensor) -> dict[str, float]:
    """How smooth weights c (L, p) are in the layer k.

    increment: mean_k |c_{k+1} - c_k|;  ratio: that over mean_k |c_k|, sqrt 2 for white noise, 0 for equal layers;
    autocorrelation: at lag 1 over k, averaged over the entries that vary, 1 for smooth, 0 for white noise (NaN where
    none varies).
    """
    c = c.double()
    increment = (c[1:] - c[:-1]).norm(dim=1).mean()
    centred = c - c.mean(0)
    variance = centred.square().sum(0)
    varies = variance > 1e-20 * c.square().sum(0).clamp_min(1e-300)
    lag = (centred[1:] * centred[:-1]).sum(0)[varies] / variance[varies]
    return {
        "increment": float(increment),
        "ratio": float(increment / c.norm(dim=1).mean().clamp_min(1e-300)),
        "autocorrelation": float(lag.mean()) if len(lag) else float("nan"),
    }
