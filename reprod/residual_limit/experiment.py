"""The experiments of Marion et al. (2024): neighbouring layers, the limit, long training, CIFAR-10, theory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprod import data
from reprod.errors import Diverged
from reprod.run import Run
from reprod.training import State, loop

from . import conv, network, pictures, rates, theory
from .config import CifarResnet, ResnetConvergence, ResnetLipschitz, ResnetLongTime, ResnetTheory, Synthetic
from .network import Descent, Law, ResidualNetwork, Weights

LOGGED = 100  # points of a metric that a person wants to see


def device_of(name: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


# -- what the three experiments on Gaussian noise share ---------------------------------------------------------------


def _descent(config: Synthetic, run: Run, depths: Sequence[int], *, spare: bool = False) -> Descent:
    """The nets of all depths and seeds at their initial weights."""
    X, Y, nets = network.initial(
        config.seeds,
        depths,
        n=config.n,
        d=config.d,
        m=config.m,
        init=config.init,
        lengthscale=config.lengthscale,
        dtype=getattr(torch, config.dtype),
        device=device_of(config.device),
        spare=spare,
    )
    law = Law(config.sigma, config.scaling, config.lr, config.clip)
    descent = Descent(law, X, Y, nets, config.kernel)
    for s, child in enumerate(run.children()):
        x, y = X[s].cpu().numpy(), Y[s].cpu().numpy()
        source = "drawn: independent standard normal inputs and targets"
        child.dataset(
            "gaussian_noise", split="train", source=source, digest=data.digest(x, y), size=config.n, shape=(config.d,)
        )
        child.note("kernel", descent.kernel)
    return descent


def _state(descent: Descent, history: dict[str, np.ndarray]) -> State:
    weights = {f"{name}{i}": getattr(net, name) for i, net in enumerate(descent.nets) for name in ("V", "W")}
    return State(weights=weights, history=history)


def _each_finite(run: Run, descent: Descent, report: Callable[[int, Run], None]) -> None:
    """Report each seed that stayed finite; of several seeds, the others fail alone."""
    children = run.children()
    for s, (child, finite) in enumerate(zip(children, descent.finite(), strict=True)):
        if finite:
            report(s, child)
        elif len(children) == 1:
            raise Diverged("the weights left the finite numbers")
        else:
            child.fail("the weights left the finite numbers")


def _model(config: Synthetic, child: Run, net: Weights, s: int, X: Tensor) -> None:
    arguments: dict[str, Any] = {
        "depth": net.depth, "d": config.d, "m": config.m, "sigma": config.sigma, "scaling": config.scaling,
        "dtype": config.dtype,
    }  # fmt: skip
    module = ResidualNetwork(**arguments)
    module.load_state_dict({"V": net.V[s].cpu(), "W": net.W[s].cpu()})
    child.model(module, arguments=arguments, example=X[s, :2].cpu())


def _due(iteration: int, iters: int) -> bool:
    return iteration % max(1, iters // LOGGED) == 0 or iteration == iters


# -- figure 1 left ----------------------------------------------------------------------------------------------------


def horizons(iters: int) -> np.ndarray:
    """Training times T of figure 1 left: 1, 1 + s, 1 + 2 s, ... below iters - 1, with s = iters // 10."""
    return np.arange(1, max(iters - 1, 2), max(iters // 10, 1))


def lipschitz(config: ResnetLipschitz, run: Run) -> None:
    """Train all depths; measure the distance of neighbouring layers before every step (spec 1.3)."""
    descent = _descent(config, run, config.depths)
    shape = len(config.seeds), len(config.depths), config.iters
    history = {
        "loss": np.full(shape, np.nan),
        "squares": np.full(shape, np.nan),
        "increments": np.full((*shape, len(network.INCREMENTS)), np.nan),
    }
    state = _state(descent, history)
    for iteration in loop(run, config.iters, state, every=config.checkpoint_every, healthy=descent.healthy):
        t = iteration - 1  # updates already made
        for i, net in enumerate(descent.nets):
            history["increments"][:, i, t] = network.increments(net, descent.kernel)
        loss, squares = descent.step()
        history["loss"][:, :, t], history["squares"][:, :, t] = loss.T, squares.T
        if _due(iteration, config.iters):
            for s, child in enumerate(run.children()):
                values = {f"train/loss_L{L}": loss[i, s] for i, L in enumerate(config.depths)}
                largest = history["increments"][s, :, t, 2]
                values |= {f"increment/max_L{L}": largest[i] for i, L in enumerate(config.depths)}
                child.log(t, values)
    _each_finite(run, descent, lambda s, child: _report_lipschitz(config, child, descent, s, history))


def _report_lipschitz(
    config: ResnetLipschitz, child: Run, descent: Descent, s: int, history: dict[str, np.ndarray]
) -> None:
    T = horizons(config.iters)
    increments = history["increments"][s]
    paper = np.maximum.accumulate(increments[..., 2], axis=1)[:, T - 1]
    code = np.sqrt(np.cumsum(increments[..., 3:], axis=1))[:, T - 1].transpose(2, 0, 1)
    squares, loss, depths = history["squares"][s], history["loss"][s], np.array(config.depths)
    child.array("T", T, axes=("T",), unit="iterations", about="training times of the curves")
    child.array("depths", depths, axes=("L",), about="depths L of the rows of all arrays")
    about = "published norm: max over t < T and k of |V_{k+1} - V_k|_F + |W_{k+1} - W_k|_F"
    child.array("lip_paper", paper, axes=("L", "T"), about=about, exact=True)
    about = (
        "released script: root of the sum over t < T and k of |Z_{k+1} - Z_k|_F^2, for Z = V, W; it plots the larger"
    )
    child.array("lip_code", code, axes=("Z", "L", "T"), about=about, exact=True)
    for name, column in (("incV_max", 0), ("incW_max", 1), ("inc_max", 2)):
        about = f"max over k of {('|dV_k|', '|dW_k|', '|dV_k| + |dW_k|')[column]} before iteration t"
        child.array(name, increments[..., column], axes=("L", "t"), about=about, exact=True)
    child.array("loss", loss, axes=("L", "t"), about="training loss before iteration t", exact=True)
    pl = depths[:, None] * squares / loss
    child.array("pl", pl, axes=("L", "t"), about="L sum_k |dloss/dZ_k|^2 / loss, bounded below under the PL condition")
    asymptotic = depths >= 16 if (depths >= 16).sum() >= 3 else depths >= 2
    fits = [rates.against_depth(depths[asymptotic], paper[asymptotic, i]) for i in range(len(T))]
    scripts = [rates.against_depth(depths[asymptotic], code[:, asymptotic, i].max(0)) for i in range(len(T))]
    about = "exponent of L, its 95 % interval; depths from 16 where there are three"
    for name, found in (("slope_paper", fits), ("slope_code", scripts)):
        values = [[f.value, f.low, f.high] for f in found]
        child.array(name, np.array(values), axes=("T", "bound"), about=f"{about}; of lip{name[5:]}", exact=True)
    child.log(config.iters, {"slope/paper": fits[-1].value, "slope/code": scripts[-1].value})
    child.log(config.iters, {"lip/L_times_paper": float(depths[-1] * paper[-1, -1])})
    _model(config, child, descent.nets[-1], s, descent.X)


# -- figure 1 right ---------------------------------------------------------------------------------------------------

ALIGNMENTS = {"left": "", "paper": "_paper"}


def convergence(config: ResnetConvergence, run: Run) -> None:
    """Train all depths and the reference in lock-step; measure their distances before every step (spec 1.3)."""
    depths = (*config.depths, config.reference)
    descent = _descent(config, run, depths)
    compared = {align: [network.pairs(align, L, config.reference) for L in config.depths] for align in ALIGNMENTS}
    seeds, iters = len(config.seeds), config.iters
    history = {
        "loss": np.full((seeds, len(depths), iters), np.nan),
        **{align: np.full((seeds, iters, len(config.depths), 3), np.nan) for align in ALIGNMENTS},
    }
    state = _state(descent, history)
    for iteration in loop(run, iters, state, every=config.checkpoint_every, healthy=descent.healthy):
        t = iteration - 1
        for align, indices in compared.items():
            for i, (net, (own, other)) in enumerate(zip(descent.nets[:-1], indices, strict=True)):
                found = network.distances(net, descent.nets[-1], own, other, descent.kernel)
                history[align][:, t, i] = found
        loss, _ = descent.step()
        history["loss"][:, :, t] = loss.T
        if _due(iteration, iters):
            for s, child in enumerate(run.children()):
                values = {f"train/loss_L{L}": loss[i, s] for i, L in enumerate(depths)}
                for i, L in enumerate(config.depths):
                    values |= {f"dV/L{L}": history["left"][s, t, i, 0], f"dW/L{L}": history["left"][s, t, i, 1]}
                child.log(t, values)
    _each_finite(run, descent, lambda s, child: _report_convergence(config, child, descent, s, history))


def _report_convergence(
    config: ResnetConvergence, child: Run, descent: Descent, s: int, history: dict[str, np.ndarray]
) -> None:
    depths = np.array(config.depths)
    child.array("depths", depths, axes=("L",), about="depths L of the columns")
    about = "training loss before iteration t; last row: the reference"
    child.array("loss", history["loss"][s], axes=("L", "t"), about=about, exact=True)
    words = {"left": "layer i against layer floor(i Lref / L), the released script", "paper": "Z_floor((L-1) s)"}
    for align, ending in ALIGNMENTS.items():
        found = history[align][s]
        for column, name in enumerate(("dV", "dW", "sup")):
            norm = ("L2(ds) norm of V's distance", "L2(ds) norm of W's distance", "sup over s of |dV|_F + |dW|_F")
            about = f"{norm[column]} to the reference; {words[align]}"
            child.array(name + ending, found[..., column], axes=("t", "L"), about=about, exact=True)
    left = history["left"][s]
    chosen = depths >= 16 if (depths >= 16).sum() >= 3 else depths >= 2
    slopes = np.full((config.iters, 3, 2, 3), np.nan)
    for t in range(config.drop, config.iters):
        for column in range(3):
            y = left[t, chosen, column]
            naive = rates.against_depth(depths[chosen], y)
            corrected = rates.against_reference(depths[chosen], y, config.reference)
            slopes[t, column] = [[f.value, f.low, f.high] for f in (naive, corrected)]
    about = "exponent of L and its 95 % interval for dV, dW, sup: against 1/L, and against 1/L - 1/Lref"
    child.array("slopes", slopes, axes=("t", "quantity", "regressor", "bound"), about=about, exact=True)
    last = slopes[-1]
    for column, name in enumerate(("dV", "dW", "sup")):
        child.log(config.iters, {f"slope/{name}": last[column, 1, 0], f"slope/{name}_naive": last[column, 0, 0]})
    _model(config, child, descent.nets[-2], s, descent.X)


# -- figure 2 ---------------------------------------------------------------------------------------------------------

LEVELS = (1e-1, 1e-4, 1e-7)


def long_time(config: ResnetLongTime, run: Run) -> None:
    """Train one depth for long; record some entries of its weights against the layer (spec 3.3)."""
    descent = _descent(config, run, [config.depth], spare=True)
    (net,) = descent.nets
    seeds, e = len(config.seeds), config.entries
    records = -(-config.iters // config.record_every)
    history = {
        "loss": np.full((seeds, config.iters), np.nan),
        "V": np.full((seeds, records, config.depth, e, e), np.nan),
        "W": np.full((seeds, records, config.depth, e, e), np.nan),
        "increments": np.full((seeds, records, len(network.INCREMENTS)), np.nan),
    }
    state = _state(descent, history)
    for iteration in loop(run, config.iters, state, every=config.checkpoint_every, healthy=descent.healthy):
        t = iteration - 1
        if t % config.record_every == 0:
            r = t // config.record_every
            history["V"][:, r] = net.V[:, :, :e, :e].cpu().numpy()
            history["W"][:, r] = net.W[:, :, :e, :e].cpu().numpy()
            history["increments"][:, r] = network.increments(net, descent.kernel)
        loss, _ = descent.step()
        history["loss"][:, t] = loss[0]
        if _due(iteration, config.iters):
            for s, child in enumerate(run.children()):
                largest = history["increments"][s, t // config.record_every]
                child.log(t, {"train/loss": loss[0, s], "increment/maxV": largest[0], "increment/maxW": largest[1]})
    _each_finite(run, descent, lambda s, child: _report_long_time(config, child, descent, s, history))


def _report_long_time(
    config: ResnetLongTime, child: Run, descent: Descent, s: int, history: dict[str, np.ndarray]
) -> None:
    for name in ("V", "W"):
        about = f"entries (i, j) of {name}_k before iterations 0, {config.record_every}, ..."
        child.array(f"{name}_rec", history[name][s], axes=("record", "k", "i", "j"), about=about, exact=True)
    about = "training loss before iteration t"
    child.array("loss", history["loss"][s], axes=("t",), about=about, exact=True)
    about = "max over k of |V_{k+1} - V_k|_F and |W_{k+1} - W_k|_F"
    child.array("inc_max", history["increments"][s, :, :2], axes=("record", "Z"), about=about, exact=True)
    last = network.increments(descent.nets[0], descent.kernel)[s]
    values = {"train/loss_final": history["loss"][s, -1], "increment/final": last[2]}
    for level, t in zip(LEVELS, rates.crossings(history["loss"][s], LEVELS), strict=True):
        if t is not None:
            values[f"crossing/{level:.0e}"] = t
    values["loss/increases"] = float((np.diff(history["loss"][s]) >= 0).sum())
    child.log(config.iters, values)
    _model(config, child, descent.nets[0], s, descent.X)


# -- figure 3, table 1 ------------------------------------------------------------------------------------------------


def cifar(config: CifarResnet, run: Run) -> None:
    """Train the convolutional network of each seed on CIFAR-10; measure how smooth its weights are in the layer."""
    run.each_seed(_cifar)


def learning_rate(lr: float, epoch: int, epochs: int) -> float:
    """Cosine to 0, constant inside an epoch: lr/2 (1 + cos(pi e / epochs)), e = 0 ... epochs - 1."""
    return lr / 2 * (1 + np.cos(np.pi * epoch / epochs))


def optimizer(config: CifarResnet, model: conv.ConvResnet) -> torch.optim.SGD:
    """One SGD over all parameters, weight decay on all of them. `adaptive`: stem and head start from 0.01."""
    residual = list(model.layers.parameters())
    inside = {id(p) for p in residual}
    others = [p for p in model.parameters() if id(p) not in inside]
    outer = 0.01 if config.adaptive else config.lr
    groups = [{"params": residual, "base": config.lr}, {"params": others, "base": outer}]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.wd)


def _cifar(config: CifarResnet, run: Run) -> None:
    device = device_of(config.device)
    train = pictures.load(config.dataset, "train", config.data_dir, config.subset)
    test = pictures.load(config.dataset, "test", config.data_dir, config.test_subset)
    for part in (train, test):
        run.dataset(
            part.name, split=part.split, source=part.source, digest=part.digest, size=len(part), shape=(3, 32, 32)
        )
    if config.dataset == "synthetic":
        run.note("data", "synthetic images, as dataset=synthetic asks")
    seed = config.seeds[0]
    arguments = {
        "depth": config.depth, "planes": config.planes, "sigma": config.sigma, "bn": config.bn, "init": config.init,
    }  # fmt: skip
    model = conv.build(seed, **arguments)  # type: ignore[arg-type]
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = [conv.convolutions(model, i).clone() for i in (1, 2)]
    sgd = optimizer(config, model)
    pixels, labels = torch.from_numpy(train.pixels), torch.from_numpy(train.labels)
    steps = -(-len(train) // config.batch)
    history: dict[str, Any] = {
        **{f"{split}_{what}": [] for split in ("train", "test") for what in ("loss", "accuracy")},
        "smoothness": [],
        "running": [0.0, 0],
    }
    state = State(model=model, optimizer=sgd, history=history)
    epoch_number, epoch = -1, None

    def healthy() -> bool:
        return bool(np.isfinite(history["running"][0])) and all(np.isfinite(history["train_loss"]))

    for iteration in loop(run, config.epochs * steps, state, every=config.checkpoint_every, healthy=healthy):
        e, step = divmod(iteration - 1, steps)
        if e != epoch_number:
            epoch_number, epoch = e, pictures.Epoch(seed, e, len(train))
            for group in sgd.param_groups:
                group["lr"] = learning_rate(group["base"], e, config.epochs)
        assert epoch is not None
        x, index = epoch.batch(pixels, step * config.batch, config.batch)
        x = pictures.normalise(x.to(device)).contiguous(memory_format=torch.channels_last)
        y = labels[index].to(device)
        model.train()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        history["running"] = [
            history["running"][0] + loss.item(), history["running"][1] + int((logits.argmax(1) == y).sum())
        ]  # fmt: skip
        if step == steps - 1:
            _end_of_epoch(run, model, history, test, device, e + 1, steps, len(train))
    _report_cifar(run, config, model, history, start)
    example = pictures.normalise(torch.from_numpy(test.pixels[:2]))
    run.model(model.to("cpu", memory_format=torch.contiguous_format), arguments=arguments, example=example)  # type: ignore[call-overload]


def _end_of_epoch(
    run: Run, model: conv.ConvResnet, history: dict[str, Any], test: Any, device: torch.device, epoch: int, steps: int,
    n: int,
) -> None:  # fmt: skip
    loss, correct = history["running"]
    history["running"] = [0.0, 0]
    history["train_loss"].append(loss / steps)
    history["train_accuracy"].append(100 * correct / n)
    test_loss, test_accuracy = evaluate(model, test, device)
    history["test_loss"].append(test_loss)
    history["test_accuracy"].append(test_accuracy)
    measured = [conv.smoothness(conv.convolutions(model, i)) for i in (1, 2)]
    history["smoothness"].append([[m["increment"], m["ratio"], m["autocorrelation"]] for m in measured])
    values = {f"{split}/{w}": history[f"{split}_{w}"][-1] for split in ("train", "test") for w in ("loss", "accuracy")}
    values |= {f"smooth/{name}_{i}": m[name] for i, m in enumerate(measured, 1) for name in m if np.isfinite(m[name])}
    run.log(epoch, values)


def evaluate(model: nn.Module, test: Any, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in per cent, in evaluation mode, batches of 100 without augmentation."""
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for first in range(0, len(test), 100):
            x = pictures.normalise(torch.from_numpy(test.pixels[first : first + 100]).to(device))
            y = torch.from_numpy(test.labels[first : first + 100]).to(device)
            logits = model(x.contiguous(memory_format=torch.channels_last))
            loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
            correct += int((logits.argmax(1) == y).sum())
    return loss / len(test), 100 * correct / len(test)


def _report_cifar(
    run: Run, config: CifarResnet, model: conv.ConvResnet, history: dict[str, Any], start: list[Tensor]
) -> None:
    for split in ("train", "test"):
        mode = (
            "in training mode, on augmented images, while the weights move" if split == "train" else "after each epoch"
        )
        for what, unit in (("loss", "nats"), ("accuracy", "%")):
            values = np.array(history[f"{split}_{what}"])
            run.array(f"{split}_{what}", values, axes=("epoch",), unit=unit, about=mode)
    about = "mean_k |c_{k+1} - c_k|, that over mean_k |c_k|, lag-1 autocorrelation over k"
    run.array("smoothness", np.array(history["smoothness"]), axes=("epoch", "convolution", "quantity"), about=about)
    final: dict[str, float] = {}
    for i, before in enumerate(start, 1):
        c = conv.convolutions(model, i)
        run.array(f"conv{i}", c, axes=("k", "entry"), about=f"weights of convolution {i} of each layer, at the end")
        run.array(f"conv{i}_start", before, axes=("k", "entry"), about=f"weights of convolution {i} at the start")
        final[f"moved/conv_{i}"] = float((c - before).norm() / before.norm().clamp_min(1e-30))
        final[f"increment/conv_{i}"] = history["smoothness"][-1][i - 1][0]
    for split in ("train", "test"):
        values = history[f"{split}_accuracy"]
        final |= {f"{split}/accuracy_last": values[-1], f"{split}/accuracy_max": max(values)}
    run.log(config.epochs, final)


# -- theory -----------------------------------------------------------------------------------------------------------


def check_theory(config: ResnetTheory, run: Run) -> None:
    """Closed forms and limits that the code must meet (spec section 5)."""
    run.each_seed(_check_theory)


def _check_theory(config: ResnetTheory, run: Run) -> None:
    seed = config.seeds[0]
    sizes = {"n": config.n, "d": config.d, "m": config.m}
    checks = [
        *theory.first_step(seed, **sizes),
        *theory.loss_converges(seed, **sizes),
        *theory.scalar_linear(),
        *theory.process_increments(seed, config.lengthscale),
        *theory.control(seed, **sizes),
    ]
    weights, found = theory.counterexample(config.half_depth, config.target)
    about = "weights w_k of the ReLU net at recorded iterations, from the start"
    run.array("relu_weights", weights, axes=("record", "k"), about=about, exact=True)
    errors, exact, euler = theory.euler_limit(seed, config.depths, config.lengthscale, **sizes)
    run.array("euler_depths", np.array(config.depths), axes=("L",), about="depths L of the other arrays")
    about = "max |F^L - F_ODE| over samples and coordinates; F_ODE by dopri5 of torchdiffeq at tolerance 1e-11"
    run.array("euler_error", errors, axes=("L",), about=about, exact=True)
    about = "max |F^L - Euler's method of torchdiffeq on the ODE of piecewise constant weights|"
    run.array("euler_difference", exact, axes=("L",), about=about, exact=True)
    for check in [*checks, *found, *euler]:
        run.log(0, {f"check/{check.name}": check.value, f"expected/{check.name}": check.expected})
        run.log(0, {f"passed/{check.name}": float(check.passed)})
        run.note(f"check.{check.name}", check.says)
