"""The experiments of Marion et al. (2024) on Gaussian noise: neighbouring layers, the limit, long training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprod import data
from reprod.errors import Diverged
from reprod.machine import device_of
from reprod.run import Run
from reprod.training import State, loop

from . import network, rates
from .config import ResnetConvergence, ResnetLipschitz, ResnetLongTime, Synthetic
from .network import Descent, Law, ResidualNetwork, Weights

LOGGED = 100  # points of a metric that a person wants to see


# -- what the three experiments on Gaussian noise share ---------------------------------------------------------------


def _descent(config: Synthetic, run: Run, depths: Sequence[int], *, spare: bool = False) -> Descent:
    """The nets of all depths and seeds at their initial weights."""
    X, Y, nets = network.initial(
        config.seeds,
        depths,
        n=config.n_train,
        d=config.dim,
        m=config.width,
        init=config.init,
        lengthscale=config.lengthscale,
        dtype=getattr(torch, config.dtype),
        device=device_of("cpu" if config.kernel == "numba" else config.device),
        spare=spare,
    )
    law = Law(config.activation, config.scaling, config.learning_rate, config.clip)
    descent = Descent(law, X, Y, nets, config.kernel)
    for s, child in enumerate(run.children()):
        x, y = X[s].cpu().numpy(), Y[s].cpu().numpy()
        source = "drawn: independent standard normal inputs and targets"
        child.dataset(
            "gaussian_noise",
            split="train",
            source=source,
            digest=data.digest(x, y),
            size=config.n_train,
            shape=(config.dim,),
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
        "depth": net.depth, "d": config.dim, "m": config.width, "sigma": config.activation, "scaling": config.scaling,
        "dtype": config.dtype,
    }  # fmt: skip
    module = ResidualNetwork(**arguments)
    module.load_state_dict({"V": net.V[s].cpu(), "W": net.W[s].cpu()})
    child.model(module, arguments=arguments, example=X[s, :2].cpu())


def _log_exponents(child: Run, iteration: int, values: dict[str, float]) -> None:
    """Exponents at the end; where distances vanish there is none, and the run says so."""
    child.log(iteration, {name: value for name, value in values.items() if np.isfinite(value)})
    if missing := [name for name, value in values.items() if not np.isfinite(value)]:
        child.note("exponents", f"none for {', '.join(missing)}: a distance is zero, or no number")


def _due(iteration: int, iterations: int) -> bool:
    return iteration % max(1, iterations // LOGGED) == 0 or iteration == iterations


# -- figure 1 left ----------------------------------------------------------------------------------------------------


def horizons(iterations: int) -> np.ndarray:
    """Training times T of figure 1 left: 1, 1 + s, 1 + 2 s, ... below iterations - 1, with s = iterations // 10."""
    return np.arange(1, max(iterations - 1, 2), max(iterations // 10, 1))


def lipschitz(config: ResnetLipschitz, run: Run) -> None:
    """Train all depths; measure the distance of neighbouring layers before every step (spec 1.3)."""
    descent = _descent(config, run, config.depths)
    shape = len(config.seeds), len(config.depths), config.iterations
    history = {
        "loss": np.full(shape, np.nan),
        "squares": np.full(shape, np.nan),
        "increments": np.full((*shape, len(network.INCREMENTS)), np.nan),
    }
    state = _state(descent, history)
    for iteration in loop(run, config.iterations, state, every=config.checkpoint_every, healthy=descent.healthy):
        t = iteration - 1  # updates already made
        for i, net in enumerate(descent.nets):
            history["increments"][:, i, t] = network.increments(net, descent.kernel)
        loss, squares = descent.step()
        history["loss"][:, :, t], history["squares"][:, :, t] = loss.T, squares.T
        if _due(iteration, config.iterations):
            for s, child in enumerate(run.children()):
                values = {f"train/loss_L{L}": loss[i, s] for i, L in enumerate(config.depths)}
                largest = history["increments"][s, :, t, 2]
                values |= {f"increment/max_L{L}": largest[i] for i, L in enumerate(config.depths)}
                child.log(t, values)
    _each_finite(run, descent, lambda s, child: _report_lipschitz(config, child, descent, s, history))


def _report_lipschitz(
    config: ResnetLipschitz, child: Run, descent: Descent, s: int, history: dict[str, np.ndarray]
) -> None:
    T = horizons(config.iterations)
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
    slopes = {norm: rates.asymptotic(depths, values) for norm, values in (("paper", paper), ("code", code.max(0)))}
    frames = [
        pd.DataFrame({"norm": norm, "T": T, "exponent": fit.value, "low": fit.low, "high": fit.high})
        for norm, fit in slopes.items()
    ]
    about = "exponent of L in lip_paper and lip_code, its 95 % interval; depths from 16 where there are three"
    child.table("slopes", pd.concat(frames), units={"T": "iterations"}, about=about)
    _log_exponents(child, config.iterations, {f"slope/{norm}": fit.value[-1] for norm, fit in slopes.items()})
    child.log(config.iterations, {"lip/L_times_paper": float(depths[-1] * paper[-1, -1])})
    _model(config, child, descent.nets[-1], s, descent.X)


# -- figure 1 right ---------------------------------------------------------------------------------------------------

ALIGNMENTS = {"left": "", "paper": "_paper"}
QUANTITIES = ("dV", "dW", "sup")


def convergence(config: ResnetConvergence, run: Run) -> None:
    """Train all depths and the reference in lock-step; measure their distances before every step (spec 1.3)."""
    depths = (*config.depths, config.reference)
    descent = _descent(config, run, depths)
    compared = {align: [network.pairs(align, L, config.reference) for L in config.depths] for align in ALIGNMENTS}
    seeds, iterations = len(config.seeds), config.iterations
    history = {
        "loss": np.full((seeds, len(depths), iterations), np.nan),
        **{align: np.full((seeds, iterations, len(config.depths), 3), np.nan) for align in ALIGNMENTS},
    }
    state = _state(descent, history)
    for iteration in loop(run, iterations, state, every=config.checkpoint_every, healthy=descent.healthy):
        t = iteration - 1
        for align, indices in compared.items():
            for i, (net, (own, other)) in enumerate(zip(descent.nets[:-1], indices, strict=True)):
                found = network.distances(net, descent.nets[-1], own, other, descent.kernel)
                history[align][:, t, i] = found
        loss, _ = descent.step()
        history["loss"][:, :, t] = loss.T
        if _due(iteration, iterations):
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
        for column, name in enumerate(QUANTITIES):
            norm = ("L2(ds) norm of V's distance", "L2(ds) norm of W's distance", "sup over s of |dV|_F + |dW|_F")
            about = f"{norm[column]} to the reference; {words[align]}"
            child.array(name + ending, found[..., column], axes=("t", "L"), about=about, exact=True)
    frames, last = [], {}
    for column, name in enumerate(QUANTITIES):
        late = history["left"][s, config.drop :, :, column].T
        for regressor, reference in (("1/L", None), ("1/L - 1/Lref", config.reference)):
            fit = rates.asymptotic(depths, late, reference)
            columns = {"iteration": range(config.drop, config.iterations), "exponent": fit.value}
            frame = pd.DataFrame({**columns, "low": fit.low, "high": fit.high})
            frames.append(frame.assign(quantity=name, regressor=regressor))
            last[f"slope/{name}{'' if reference else '_naive'}"] = fit.value[-1]
    about = "exponent of L in dV, dW and sup, and its 95 % interval; depths from 16 where there are three"
    child.table("slopes", pd.concat(frames), about=about)
    _log_exponents(child, config.iterations, last)
    _model(config, child, descent.nets[-2], s, descent.X)


# -- figure 2 ---------------------------------------------------------------------------------------------------------

LEVELS = (1e-1, 1e-4, 1e-7)


def long_time(config: ResnetLongTime, run: Run) -> None:
    """Train one depth for long; record some entries of its weights against the layer (spec 3.3)."""
    descent = _descent(config, run, [config.depth], spare=True)
    (net,) = descent.nets
    seeds, e = len(config.seeds), config.entries
    records = config.records
    history = {
        "loss": np.full((seeds, config.iterations), np.nan),
        "V": np.full((seeds, records, config.depth, e, e), np.nan),
        "W": np.full((seeds, records, config.depth, e, e), np.nan),
        "increments": np.full((seeds, records, len(network.INCREMENTS)), np.nan),
    }
    state = _state(descent, history)
    for iteration in loop(run, config.iterations, state, every=config.checkpoint_every, healthy=descent.healthy):
        t = iteration - 1
        if t % config.record_every == 0:
            r = t // config.record_every
            history["V"][:, r] = net.V[:, :, :e, :e].cpu().numpy()
            history["W"][:, r] = net.W[:, :, :e, :e].cpu().numpy()
            history["increments"][:, r] = network.increments(net, descent.kernel)
        loss, _ = descent.step()
        history["loss"][:, t] = loss[0]
        if _due(iteration, config.iterations):
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
    crossed = pd.DataFrame({"level": LEVELS, "iteration": rates.crossings(history["loss"][s], LEVELS)}, dtype=float)
    child.table("crossings", crossed, about="first iteration at which the loss is below a level; empty where never")
    values = {"train/loss_final": history["loss"][s, -1], "increment/final": last[2]}
    values["loss/increases"] = float((np.diff(history["loss"][s]) >= 0).sum())
    child.log(config.iterations, values)
    _model(config, child, descent.nets[0], s, descent.X)
