"""The experiments of Zhang et al. (2021): train many networks, imitate them, show the phase transition."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from reprod.config import spell
from reprod.errors import BadInput, Diverged
from reprod.run import Run
from reprod.training import State, loop, stream

from . import estimate, trials
from . import separation as sde
from . import simulate as ode
from .config import CifarDynamics, GeomnistDynamics, LeOdeSimulation, LeSdeSeparation
from .data import load
from .networks import LeNets

LOGGED = 200  # points of a metric that a person wants to see
STRIDE = 250  # steps after which all trials have to be at the same iteration: progress, Ctrl-C


# -- training -----------------------------------------------------------------------------------------------------


def train(config: GeomnistDynamics | CifarDynamics, run: Run) -> None:
    """R trials for each seed, all of them as one batched computation (spec 2.3)."""
    run.each_seed(_train)


def _train(config: GeomnistDynamics | CifarDynamics, run: Run) -> None:
    source = load(config)
    examples = source.examples
    for split, y in (("train", examples.y_train), ("validation", examples.y_val)):
        shape = examples.x_train.shape[1:]
        run.dataset(
            source.name, split=split, source=source.source, digest=source.digest(split), size=len(y), shape=shape
        )
    R, T, every = config.networks, config.iterations, config.eval_every
    ensemble = trials.build(
        examples, classes=config.classes, trials=R, iterations=T, lr=config.learning_rate, seed=config.seeds[0],
        head=config.head == "orthogonal", dtype=config.dtype,
    )  # fmt: skip
    evaluated = np.unique(np.append(np.arange(0, T + 1, every), T))
    loss, accuracy = np.zeros((len(evaluated), R)), np.zeros((len(evaluated), R))
    progress = {"done": 0, "evaluations": 1}
    labels = examples.y_train[ensemble.samples].astype(np.uint8)
    log_every = max(1, len(evaluated) // LOGGED)
    loss[0], accuracy[0] = ensemble.evaluate()
    run.log(0, {"val/loss": loss[0].mean(), "val/accuracy": accuracy[0].mean()})
    state = State(weights=ensemble.weights, logits=ensemble.logits, loss=loss, accuracy=accuracy, progress=progress)

    def healthy() -> bool:
        return bool(np.isfinite(ensemble.weights).all())

    def status() -> str:
        e = progress["evaluations"] - 1
        return f"val loss {loss[e].mean():.4f}, accuracy {accuracy[e].mean():.3f}"

    for iteration in loop(run, T, state, every=config.checkpoint_every, healthy=healthy, status=status):
        due = iteration % every == 0 or iteration == T
        if not due and iteration % STRIDE and iteration % config.checkpoint_every:
            continue  # trials go many steps at a time, one after the other, so that a network stays in the cache
        ensemble.train(progress["done"], iteration)
        progress["done"] = iteration
        if not due:
            continue
        e = progress["evaluations"]
        loss[e], accuracy[e] = ensemble.evaluate()
        progress["evaluations"] = e + 1
        if e % log_every == 0 or iteration == T:
            part = slice(evaluated[e - 1], iteration)
            seen = cross_entropy(ensemble.logits[:, part], labels[:, part]).mean()
            run.log(iteration, {"train/loss": seen, "val/loss": loss[e].mean(), "val/accuracy": accuracy[e].mean()})
    _report(config, run, ensemble, labels, evaluated, loss, accuracy, examples.x_val)


def say(run: Run, name: str, text: str) -> None:
    """A note of the run, and a line for whoever waits for it."""
    run.note(name, text)
    print(f"reprod: {text}", file=sys.stderr)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log sum_k exp(z_k) - z_y for logits (..., K) and labels (...,)."""
    z = logits.astype(float)
    return logsumexp(z, axis=-1) - np.take_along_axis(z, labels[..., None].astype(int), axis=-1)[..., 0]


def _report(
    config: GeomnistDynamics | CifarDynamics, run: Run, ensemble: trials.Ensemble, labels: np.ndarray,
    evaluated: np.ndarray, loss: np.ndarray, accuracy: np.ndarray, images: np.ndarray,
) -> None:  # fmt: skip
    before = "before the update of that iteration"
    run.array("logits", ensemble.logits, axes=("network", "iteration", "class"), about=f"of the drawn sample, {before}")
    run.array("labels", labels, axes=("network", "iteration"), about="training label (corrupted, if so) of the sample")
    run.array("samples", ensemble.samples, axes=("network", "iteration"), about="index of the drawn sample")
    run.array("evaluated", evaluated, axes=("evaluation",), unit="iteration", about="updates done at each evaluation")
    run.array("val_loss", loss, axes=("evaluation", "network"), unit="nats", about="mean validation cross-entropy")
    run.array("val_accuracy", accuracy, axes=("evaluation", "network"), about="validation accuracy")
    seen = np.mean([cross_entropy(z, y) for z, y in zip(ensemble.logits, labels, strict=True)], axis=0)
    run.array(
        "train_loss", seen, axes=("iteration",), unit="nats", about="cross-entropy of the samples, mean of trials"
    )
    means, count = estimate.class_means(ensemble.logits, labels, config.classes)
    about = "mean logit over the trials whose sample has the class, NaN without any"
    run.array("class_means", means, axes=("iteration", "class", "logit"), about=about, exact=True)
    run.array("class_counts", count, axes=("iteration", "class"), unit="trials", about="trials behind each class mean")
    A, B = estimate.i_model(means)
    A, B = estimate.filled(A), estimate.filled(B)
    measured = {
        "estimate/A": A[-100:].mean(),
        "estimate/B": B[-100:].mean(),
        "estimate/tail_alpha": estimate.tail_index(A),
        "estimate/tail_beta": estimate.tail_index(B),
        "estimate/empty_cells": float((count == 0).mean()),
    }
    run.log(config.iterations, {name: float(value) for name, value in measured.items() if np.isfinite(value)})
    if unknown := [name for name, value in measured.items() if not np.isfinite(value)]:
        seen = int((count > 0).all(axis=1).sum())
        say(run, "estimates", f"no {', '.join(unknown)}: {seen} of {config.iterations} iterations have logits of every "
            f"class ({config.networks} networks)")  # fmt: skip
    networks = LeNets(config.networks, config.classes, config.channels)
    with torch.no_grad():
        networks.weights.copy_(torch.from_numpy(ensemble.weights))
        if ensemble.heads.size:
            networks.get_buffer("heads").copy_(torch.from_numpy(ensemble.heads))
    arguments = {"trials": config.networks, "classes": config.classes, "channels": config.channels}
    run.model(networks, arguments=arguments, example=torch.from_numpy(images[:2].astype(np.float32)))


# -- the LE-ODE ---------------------------------------------------------------------------------------------------


def simulate(config: LeOdeSimulation, run: Run) -> None:
    """LE-ODE solutions driven by measured strengths, for each seed (spec 2.4)."""
    run.each_seed(_simulate)


def _simulate(config: LeOdeSimulation, run: Run) -> None:
    (training,) = config.upstream()
    real_means = run.upstream(training).array("class_means")
    means = estimate.filled(real_means)
    steps, K = means.shape[:2]
    config.suits(steps, K)
    if not np.isfinite(means).all():
        raise BadInput("the training that is imitated has too few networks: there is a class without any logits")
    A, B = estimate.ESTIMATORS[config.estimator](means, config.baseline)
    alpha, beta = (estimate.rate(integral, config.window) for integral in (A, B))
    flow = ode.build(alpha, beta, K, drift=config.drift, integrator=config.integrator)
    for name, series, unit, about in (
        ("A", A, "1", "integral of alpha, as estimated"), ("B", B, "1", "integral of beta, as estimated"),
        ("alpha", alpha, "1/iteration", "push on the class of the sample"),
        ("beta", beta, "1/iteration", "push on other classes"),
    ):  # fmt: skip
        run.array(name, series, axes=("iteration",), unit=unit, about=about, exact=True)
    run.array(
        "real", real_means, axes=("iteration", "class", "logit"), about="class means that are imitated", exact=True
    )
    if config.start == "measured":
        starts = means[:1]
        spread = np.zeros_like(means)
    else:
        rng = stream(config.seeds[0], "starts")
        starts, sigma = ode.gaussian_starts(means[0], config.simulations, config.noise_scale, rng)
        spread = ode.deviation(flow, sigma)
    mean = flow(starts.mean(axis=0))
    if not np.isfinite(mean).all():
        raise Diverged("the imitation left the finite numbers: the strengths are too noisy, take a wider window")
    axes = ("iteration", "class", "logit")
    run.array("mean", mean, axes=axes, about="mean over the simulations", exact=True)
    run.array("deviation", spread, axes=axes, about="deviation over Gaussian starts, exact by linearity", exact=True)
    kept = starts[: config.keep]
    with tempfile.TemporaryDirectory() as folder:  # a gigabyte at paper scale: never in memory as a whole
        shape = (len(kept), *mean.shape)
        path = Path(folder, "solutions.npy")
        solutions = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for row, start in zip(solutions, kept, strict=True):
            row[:] = flow(start)
        run.array("solutions", solutions, axes=("simulation", *axes), about="class means of each simulation")
    real = np.nanmean(real_means[-estimate.TAIL :, 0], axis=0)
    ends = ode.tail_means(flow, starts, estimate.TAIL)[:, 0]  # each is a draw of what the published figure shows
    about = "class 0 of every simulation (not of the stored ones alone): mean logits over the last thousand iterations"
    columns = {"simulation": np.arange(len(ends)), **{f"logit_{j}": ends[:, j] for j in range(K)}}
    table = pd.DataFrame({**columns, "cosine": ode.cosine(ends, real)})
    run.table("ends", table, about=f"{about}, and their cosine with the real ones")
    simulated = ends.mean(axis=0)
    values = {f"class0/simulated_{j}": simulated[j] for j in range(K)} | {f"class0/real_{j}": real[j] for j in range(K)}
    values |= {"class0/cosine": ode.cosine(simulated, real), "class0/cosine_of_single": ode.cosine(ends, real).mean()}
    run.log(len(mean), {name: float(value) for name, value in values.items() if np.isfinite(value)})


# -- the phase transition -----------------------------------------------------------------------------------------


def separation(config: LeSdeSeparation, run: Run) -> None:
    """Gap, spread and linear separability under strengths that decay as t^-r, for each seed (E8)."""
    run.each_seed(_separation)


def _separation(config: LeSdeSeparation, run: Run) -> None:
    traces: list[sde.Trace] = []
    systems = []
    for r in config.exponents:
        trace = sde.simulate(
            config.model, r, alpha=config.alpha, beta=config.beta, sigma=config.sigma, spread=config.spread,
            gap=config.gap, classes=config.classes, samples=config.samples, replicas=config.replicas,
            iterations=config.iterations, rng=stream(config.seeds[0], f"exponent/{spell(r)}"),
        )  # fmt: skip
        traces.append(trace)
        for replica, features in enumerate(trace.features):
            ends = {"ratio": trace.ratio[replica, -1], "cosine": trace.cosine[replica, -1]}
            systems.append({"exponent": r, "replica": replica, **ends, "separable": sde.separable(features)})
        for t, ratio in zip(trace.times, np.median(trace.ratio, axis=0), strict=True):
            run.log(int(t), {f"ratio/r_{spell(r)}": float(ratio)})
    table = pd.DataFrame(systems)
    for r in config.exponents:
        share = table.loc[table["exponent"] == r, "separable"].mean()
        run.log(config.iterations, {f"separable/r_{spell(r)}": float(share)})
    run.table("systems", table, about="each system at the end: gap over spread, mean cosine of centred class means, "
              "whether hyperplanes part its classes")  # fmt: skip
    run.array("times", traces[0].times, axes=("time",), unit="steps", about="when the systems are looked at")
    run.array("exponents", np.array(config.exponents), axes=("exponent",), about="r in alpha = a t^-r", exact=True)
    axes = ("exponent", "replica", "time")
    about = "smallest distance of class means over within-class spread"
    run.array("ratio", np.stack([trace.ratio for trace in traces]), axes=axes, about=about, exact=True)
    about = "mean cosine of centred class means"
    run.array("cosine", np.stack([trace.cosine for trace in traces]), axes=axes, about=about, exact=True)
