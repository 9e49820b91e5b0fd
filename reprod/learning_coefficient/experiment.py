"""The experiments of Lau et al. 2023: each computes and reports to its run."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from reprod import data, training
from reprod.errors import Diverged
from reprod.learning_coefficient.config import (
    DlnLlc,
    DlnSaddleDynamics,
    MalaVsSgld,
    RescalingInvariance,
    ResnetLlcCurve,
)
from reprod.learning_coefficient.dln import (
    DlnInputs,
    DlnPotential,
    DlnTraining,
    dln_potential,
    flat,
    product,
    true_weights,
    truncated_normal_weights,
    unflat,
)
from reprod.learning_coefficient.estimate import Chains, LlcEstimate, Sampling, estimate_llc
from reprod.learning_coefficient.exact import (
    dln_dimension,
    dln_functional_rank,
    dln_hessian_trace,
    dln_learning_coefficient,
    numerical_rank,
)
from reprod.learning_coefficient.models import ReluMlp, ResNet18
from reprod.learning_coefficient.potentials import ModelPotential
from reprod.learning_coefficient.sizes import SIZE_CLASSES, sample_widths
from reprod.run import Run
from reprod.training import stream, torch_stream

LOG_POINTS = 50  # metrics of a trace that a person sees in the UI; the whole trace is an array
TRAINING_LOSS_EVERY = 50


def device_of(config: Any) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


# -- E1: deep linear networks -----------------------------------------------------------------------------------------


def dln_llc(config: DlnLlc, run: Run) -> None:
    """Estimate the learning coefficient of one random deep linear network per seed, beside the exact value."""
    run.each_seed(_one_network)


def _one_network(config: DlnLlc, run: Run) -> None:
    (seed,) = config.seeds
    size = SIZE_CLASSES[config.size_class]
    widths = config.widths or sample_widths(config.size_class, seed)
    weights, rank = true_weights(
        widths, config.truth, rng=stream(seed, "truth"), reduce_probability=config.reduce_probability,
        singular_mean=config.singular_mean, singular_std=config.singular_std,
    )  # fmt: skip
    exact = dln_learning_coefficient(widths, rank)
    device = device_of(config)
    inputs = DlnInputs(config.num_data or size.num_data, widths[0], seed, config.input_distribution, str(device))
    # The collapsed sampler needs no rows, but training, if asked for, is on minibatches.
    mode = "minibatch" if config.train else config.sampler
    target = product([torch.from_numpy(w).double() for w in weights])
    potential = dln_potential(widths, target, inputs, mode=mode)
    _generated(run, "dln_inputs", inputs.num_data, (widths[0],), potential.moment)

    groups = 2 if config.train else 1
    chains = Chains(
        potential,
        flat(weights),
        Sampling(
            step_size=config.step_size or size.step_size, num_steps=config.num_steps or size.num_steps,
            chains=groups * config.chains, gamma=config.gamma, nbeta=config.nbeta,
            batch_size=None if config.sampler == "collapsed" else config.batch_size, burn_in=config.burn_in, seed=seed,
            trace=config.trace, acceptance_every=config.acceptance_every,
        ),
    )  # fmt: skip
    training_steps = config.training_steps if config.train else 0
    start = flat(truncated_normal_weights(widths, stream(seed, "init")))[None]
    trained = DlnTraining(
        potential, start, learning_rate=config.learning_rate, momentum=config.momentum,
        batch_size=min(config.training_batch_size, inputs.num_data), seed=seed,
    )  # fmt: skip
    losses = torch.full((-(-training_steps // TRAINING_LOSS_EVERY),), torch.nan, device=device)
    state = training.State(**chains.parts(), **trained.parts(), training_losses=losses)
    moved = False
    for iteration in training.loop(run, training_steps + chains.num_steps, state, every=config.checkpoint_every):
        if iteration <= training_steps:
            loss = trained.step(iteration - 1)
            if (iteration - 1) % TRAINING_LOSS_EVERY == 0:
                losses[(iteration - 1) // TRAINING_LOSS_EVERY] = loss[0]
            continue
        if config.train and not moved:
            _move_to_trained(chains, flat(weights).to(device), trained.params[0], first=iteration == training_steps + 1)
            moved = True
        chains.step(iteration - training_steps - 1)
        if chains.dead:
            break

    found = chains.estimate(slice(0, config.chains))
    facts = {
        "llc/exact": float(exact.value), "llc/multiplicity": exact.multiplicity, "network/rank": rank,
        "network/parameters": dln_dimension(widths), "network/layers": len(widths) - 1,
    }  # fmt: skip
    if config.diagnostics:
        some = DlnInputs(100, widths[0], seed + 2**40, config.input_distribution).all().numpy()
        facts |= {
            "truth/functional_rank": dln_functional_rank(weights, 1e-5),
            "truth/hessian_trace": dln_hessian_trace(weights, some),
        }
    run.log(0, facts)
    run.array("widths", np.array(widths), axes=("layer",), about="n_0, ..., n_L")
    singular = [np.linalg.svd(w, compute_uv=False) for w in weights]
    run.array(
        "singular_values", np.concatenate(singular), axes=("value",), about="of the true layers, one after another"
    )
    _report_estimate(run, found, "llc")
    if exact.value:
        run.log(chains.num_steps, _finite({"llc/relative_error": 1 - found.llc / float(exact.value)}))
    if config.train:
        run.array("training_losses", losses, axes=("record",), about=f"every {TRAINING_LOSS_EVERY} steps of SGD")
        other = chains.estimate(slice(config.chains, None))
        _report_estimate(run, other, "trained", trace_name="trained_loss_trace")
        run.log(chains.num_steps, _finite({"trained/loss": other.initial_loss}))


def _move_to_trained(chains: Chains, truth: Tensor, trained: Tensor, *, first: bool) -> None:
    """The second half of the chains starts at the trained parameter (NaN if the training diverged: so will they)."""
    each = len(chains.state.params) // 2
    centre = torch.cat([truth.expand(each, -1), trained.expand(each, -1)])
    if first:
        chains.state.params.copy_(centre)
    chains.state.centre = centre
    with np.errstate(invalid="ignore"):
        chains.initial_losses = chains.potential.loss(centre).double().cpu().numpy()


def _report_estimate(run: Run, found: LlcEstimate, prefix: str, *, trace_name: str = "loss_trace") -> None:
    """Estimate, diagnostics and trace of chains at one parameter."""
    every = found.settings.trace_every
    draws = found.loss_trace.shape[1]
    good = found.llc_trace[found.diverged_at < 0]
    if len(good):
        for part in np.array_split(np.arange(draws), min(LOG_POINTS, draws)):
            run.log(int(part[-1] + 1) * every, {f"{prefix}/trace": float(good[:, part].mean())})
    run.log(draws * every, _finite({
        f"{prefix}/estimate": found.llc,
        f"{prefix}/all_steps": found.with_burn_in(0.0),
        f"{prefix}/last_half": found.with_burn_in(0.5),
        f"{prefix}/standard_error": found.standard_error,
        f"{prefix}/r_hat": found.r_hat,
        f"{prefix}/initial_loss": found.initial_loss,
        f"{prefix}/diverged_chains": found.diverged,
        f"{prefix}/acceptance": _mean(found.acceptance),
        f"{prefix}/seconds": found.seconds,
        f"{prefix}/cpu_seconds": found.cpu_seconds,
    }))  # fmt: skip
    run.array(trace_name, found.loss_trace, axes=("chain", "draw"), about=f"loss of a draw, every {every} steps")
    if found.acceptance.size:
        values = found.acceptance
        about = "Metropolis acceptance probability; record_steps holds their steps"
        run.array(f"{prefix}_acceptance", values, axes=("chain", "record"), about=about)
        run.array(f"{prefix}_acceptance_steps", found.acceptance_steps, axes=("record",), about="steps of the records")
    _note_warnings(run, found, f"{prefix}.warnings")


def _note_warnings(run: Run, found: LlcEstimate, name: str) -> None:
    """Reasons for doubt are kept with the run; that chains diverged is also said at once."""
    if found.warnings:
        run.note(name, " | ".join(found.warnings))
    if found.diverged:
        warnings.warn(f"{run.config.title()}: {found.warnings[0]}", stacklevel=2)


# -- E3: saddle-to-saddle dynamics ------------------------------------------------------------------------------------


def dln_saddle_dynamics(config: DlnSaddleDynamics, run: Run) -> None:
    """Train a deep linear network from small weights and estimate the learning coefficient along the way."""
    run.each_seed(_saddle_to_saddle)


def _saddle_to_saddle(config: DlnSaddleDynamics, run: Run) -> None:
    (seed,) = config.seeds
    device, d = device_of(config), config.in_out_dim
    widths = (d, *[config.width] * config.hidden_layers, d)
    teacher = 10.0 * torch.diag(torch.arange(1.0, d + 1))
    x = torch.randn(config.num_data, d, generator=torch_stream(seed, "data")).to(device)
    _generated(run, "gaussian_inputs", config.num_data, (d,), x)
    potential = dln_potential(widths, teacher, x)
    rng, deviation = stream(seed, "init"), config.width ** (-config.initialisation_exponent / 2)
    start = [deviation * rng.standard_normal(shape) for shape in pairwise(widths)]
    trained = DlnTraining(
        potential, flat(start)[None], learning_rate=config.learning_rate, momentum=0.0,
        batch_size=config.training_batch_size, seed=seed,
    )  # fmt: skip

    period = config.logging_period
    rows = -(-config.training_steps // period)
    # Parameters wait until there are enough of them to sample at all in one batch of chains.
    together = max(1, min(100, rows, 4_000_000 // (potential.dimension * config.chains)))
    waiting = torch.zeros(together, potential.dimension, device=device)
    settings = _saddle_settings(config)
    steps = Chains(potential, trained.params[0], settings).num_steps
    table = {name: np.full(rows, np.nan) for name in ("train_loss", "llc", "rank", "exact", "multiplicity")}
    traces = np.full((rows, steps), np.nan, dtype=np.float32)
    state = training.State(**trained.parts(), waiting=waiting, traces=traces, **table)

    def healthy() -> bool:
        return bool(torch.isfinite(trained.params).all())

    for iteration in training.loop(
        run, config.training_steps, state, every=config.checkpoint_every, healthy=healthy
    ):  # fmt: skip
        loss = trained.step(iteration - 1)
        row, behind = divmod(iteration - 1, period)
        if behind:
            continue
        waiting[row % together] = trained.params[0]
        table["train_loss"][row] = float(loss[0])
        p = product(unflat(trained.params[0].double(), widths)).cpu().numpy()
        # The numerical rank of single precision, as in the paper: it is full all along.
        table["rank"][row] = numerical_rank(p, d * float(np.finfo(np.float32).eps)) if np.isfinite(p).all() else np.nan
        if row % together == together - 1 or row == rows - 1:
            first = row - row % together
            centres = waiting[: row - first + 1]
            table["llc"][first : row + 1], traces[first : row + 1] = _at_own_outputs(
                config, potential, centres, int(stream(seed, f"estimate/{first}").integers(2**31))
            )
            for i in range(first, row + 1):
                at = i * period + 1
                run.log(at, _finite({"train/loss": table["train_loss"][i], "llc/estimate": table["llc"][i]}))
    for i, rank in enumerate(table["rank"]):
        if np.isfinite(rank):
            value, table["multiplicity"][i] = dln_learning_coefficient(widths, int(rank))
            table["exact"][i] = float(value)
    run.array("step", 1 + period * np.arange(rows), axes=("row",), unit="steps of SGD", about="step of each row")
    for name, values in table.items():
        run.array(name, values, axes=("row",), about=f"{name} at each row's step")
    run.array("loss_trace", traces, axes=("row", "draw"), about="SGLD losses against the student's own outputs")
    run.log(config.training_steps, {"network/parameters": potential.dimension, "llc/exact": float(table["exact"][-1])})


def _saddle_settings(config: DlnSaddleDynamics, chains: int = 1, seed: int = 0) -> Sampling:
    return Sampling(
        step_size=config.step_size, num_steps=config.num_steps, chains=chains, gamma=config.gamma,
        batch_size=None if config.sampler == "collapsed" else config.batch_size, burn_in=0.0, seed=seed,
        trace=config.trace, whole_epochs=config.whole_epochs,
    )  # fmt: skip


def _at_own_outputs(
    config: DlnSaddleDynamics, potential: DlnPotential, centres: Tensor, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates at several parameters at once, each against its own outputs, so that its loss is zero: (estimates,
    traces averaged over the chains of each)."""
    params = centres.repeat_interleave(config.chains, dim=0)
    own = DlnPotential(
        potential.widths, product(unflat(params.double(), potential.widths)), potential.moment,
        num_data=potential.num_data, rows=potential.rows, device=potential.device,
    )  # fmt: skip
    chains = Chains(own, params, _saddle_settings(config, len(params), seed))
    for step in range(chains.num_steps):
        chains.step(step)
    found = chains.estimate()
    each = (len(centres), config.chains)
    return found.per_chain.reshape(each).mean(axis=1), found.loss_trace.reshape(*each, -1).mean(axis=1)


# -- E2: ResNet18 on CIFAR-10 -----------------------------------------------------------------------------------------


def resnet_llc_curve(config: ResnetLlcCurve, run: Run) -> None:
    """Train a ResNet18 on CIFAR-10 and estimate its learning coefficient along the way."""
    run.each_seed(_resnet_curve)


def _resnet_curve(config: ResnetLlcCurve, run: Run) -> None:
    from reprod.data import images

    (seed,) = config.seeds
    device = device_of(config)
    sets = {}
    for split, count in (("train", config.num_train), ("test", config.num_test)):
        loaded = images.load("cifar10", split, config.data_dir).first(count)
        run.dataset("cifar10", split=split, source=loaded.source, digest=loaded.digest, size=count, shape=(3, 32, 32))
        sets[split] = (torch.from_numpy(loaded.pixels).to(device), torch.from_numpy(loaded.labels).to(device))
    pixels, labels = sets["train"]
    # Training sees the noisy labels; the estimate is taken on the clean ones, as in the paper.
    noisy = _noisy(labels, config.label_noise, seed)
    model = ResNet18(config.layer_width_factor, seed=seed).to(device)
    params = list(model.parameters())
    if config.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(params, lr=config.learning_rate)
    else:
        optimizer = torch.optim.SGD(params, lr=config.learning_rate, momentum=config.momentum)

    recorded = [t for t in range(config.training_steps) if t % config.logging_period == 0]
    recorded += [config.training_steps - 1] if recorded[-1] != config.training_steps - 1 else []
    names = (
        "llc", "llc_error", "initial_loss", "train_loss", "test_loss", "test_loss_no_reg", "train_accuracy",
        "test_accuracy",
    )  # fmt: skip
    table = {name: np.full(len(recorded), np.nan) for name in names}
    traces = np.full((len(recorded), config.chains, config.num_steps), np.nan, dtype=np.float32)
    state = training.State(model=model, optimizer=optimizer, traces=traces, **table)
    per_epoch, epoch, order = -(-len(labels) // config.batch_size), -1, torch.empty(0)

    def healthy() -> bool:
        return all(bool(torch.isfinite(p).all()) for p in params)

    for iteration in training.loop(
        run, config.training_steps, state, every=config.checkpoint_every, healthy=healthy
    ):  # fmt: skip
        step = iteration - 1
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(len(labels), generator=torch_stream(seed, f"batches/{epoch}")).to(device)
        rows = order[step % per_epoch * config.batch_size :][: config.batch_size]
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(model(pixels[rows]), noisy[rows]) + _penalty(params, config.l2)
        loss.backward()
        optimizer.step()
        if step not in recorded:
            continue
        row = recorded.index(step)
        if not healthy():
            raise Diverged(f"the training left the finite numbers before step {iteration}")
        penalty = float(torch.as_tensor(_penalty(params, config.l2)).detach())
        evaluated = {s: _evaluate(model, *sets[s]) for s in sets}
        found = _resnet_estimate(config, model, pixels, labels, int(stream(seed, f"estimate/{step}").integers(2**31)))
        values = {
            "llc": found.llc, "llc_error": found.standard_error, "initial_loss": found.initial_loss,
            "train_loss": float(loss.detach()), "test_loss": evaluated["test"][0] + penalty,
            "test_loss_no_reg": evaluated["test"][0],
            "train_accuracy": evaluated["train"][1], "test_accuracy": evaluated["test"][1],
        }  # fmt: skip
        for name, value in values.items():
            table[name][row] = value
        traces[row] = found.loss_trace
        run.log(iteration, _finite({
            "llc/estimate": found.llc, "train/loss": values["train_loss"], "train/accuracy": values["train_accuracy"],
            "test/loss": values["test_loss"], "test/accuracy": values["test_accuracy"],
        }))  # fmt: skip
        _note_warnings(run, found, f"llc.warnings.{iteration}")
    run.array("step", np.array(recorded) + 1, axes=("row",), unit="training steps", about="step of each row")
    for name, column in table.items():
        run.array(name, column, axes=("row",), about=f"{name} at each row's step")
    run.array("loss_trace", traces, axes=("row", "chain", "draw"), about="SGLD losses at each row's parameters")
    run.model(model.cpu().eval(), arguments=model.arguments, example=pixels[:2].float().cpu() / 255)


def _resnet_estimate(config: ResnetLlcCurve, model: ResNet18, pixels: Tensor, labels: Tensor, seed: int) -> LlcEstimate:
    """At the model's parameters, on clean labels or, `force_realisable`, on its own predictions."""
    targets = labels
    if config.force_realisable:
        model.eval()
        with torch.no_grad():
            targets = torch.cat([model(x).softmax(1) for x in pixels.split(1000)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are kept with the run
        return estimate_llc(
            model, cross_entropy, (pixels, targets), batch_chains=pixels.is_cuda, rows_at_once=1000,
            step_size=config.step_size, num_steps=config.num_steps, chains=config.chains, gamma=config.gamma,
            batch_size=config.sgld_batch_size, burn_in=config.burn_in, seed=seed,
        )  # fmt: skip


def _penalty(params: list[torch.nn.Parameter], l2: float) -> Tensor | float:
    return l2 * sum(p.square().sum() for p in params) if l2 else 0.0


def _noisy(labels: Tensor, level: float, seed: int, classes: int = 10) -> Tensor:
    """A share of the labels replaced by uniform ones, which may equal the old."""
    replaced = labels.clone()
    generator = torch_stream(seed, "label noise")
    chosen = torch.randperm(len(labels), generator=generator)[: int(level * len(labels))]
    replaced[chosen.to(labels.device)] = torch.randint(classes, (len(chosen),), generator=generator).to(labels.device)
    return replaced


def _evaluate(model: torch.nn.Module, pixels: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy, BatchNorm with running statistics."""
    model.eval()
    with torch.no_grad():
        outputs = torch.cat([model(x) for x in pixels.split(1000)])
    return float(cross_entropy(outputs, labels)), float((outputs.argmax(1) == labels).float().mean())


# -- E4: rescaling invariance -----------------------------------------------------------------------------------------


def rescaling_invariance(config: RescalingInvariance, run: Run) -> None:
    """Estimates at one function whose layers are scaled differently; all factors and runs are one batch of chains."""
    run.each_seed(_rescaled)


def _rescaled(config: RescalingInvariance, run: Run) -> None:
    (seed,) = config.seeds
    device = device_of(config)
    widths = (config.input_width, config.hidden_width, config.input_width)
    truth = ReluMlp(widths, seed=seed, duplicated=config.duplicated).to(device)
    x, y = _teacher_data(truth, config.num_data, seed, device)
    _generated(run, "uniform_inputs", config.num_data, (widths[0],), x)
    potential = ModelPotential(truth, mse_loss, (x, y))
    scales = {"layers.0.weight": 1, "layers.0.bias": 1, "layers.1.weight": -1, "layers.1.bias": 0}
    powers = torch.zeros(potential.dimension, device=device)
    for name, power in scales.items():
        powers[potential.slices[name]] = power
    factors = torch.tensor([10.0**e for e in config.exponents], device=device).repeat_interleave(config.runs)[:, None]
    centres = potential.centre * factors**powers
    settings = Sampling(
        step_size=config.step_size, num_steps=config.num_steps, chains=len(factors), gamma=config.gamma,
        batch_size=config.batch_size, burn_in=0.0, seed=seed, trace="after", trace_loss="full",
        trace_every=config.trace_every, order="sequential", acceptance_every=config.acceptance_every,
    )  # fmt: skip
    preconditioner = factors ** (2 * powers) if config.precondition else None
    chains = Chains(potential, centres, settings, preconditioner=preconditioner)
    state = training.State(**chains.parts())
    for iteration in training.loop(run, chains.num_steps, state, every=config.checkpoint_every):
        chains.step(iteration - 1)
    found = chains.estimate()
    shape = (len(config.exponents), config.runs)
    _report_estimate(run, found, "llc")
    run.array("exponents", np.array(config.exponents), axes=("factor",), about="log10 of the factor of the first layer")
    run.array("llc", found.per_chain.reshape(shape), axes=("factor", "run"), about="estimate from all draws")
    run.log(config.num_steps, {"llc/upper_bound": potential.dimension / 2, "network/parameters": potential.dimension})
    if config.precondition:
        run.log(
            config.num_steps, _finite({"same_noise/relative_difference": _same_noise(config, potential, powers, seed)})
        )


def _same_noise(config: RescalingInvariance, potential: ModelPotential, powers: Tensor, seed: int) -> float:
    """Relative difference of the estimates at factors 1 and 1000 for the same noise: an exact change of variables."""
    settings = Sampling(
        step_size=config.step_size, num_steps=min(config.num_steps, 200), chains=1, gamma=config.gamma,
        batch_size=config.batch_size, burn_in=0.0, seed=seed, order="sequential",
    )  # fmt: skip
    values = []
    for c in (1.0, 1000.0):
        factor = torch.tensor(c, device=potential.device)
        chains = Chains(
            potential, potential.centre * factor**powers, settings,
            preconditioner=factor ** (2 * powers) if config.precondition else None,
        )  # fmt: skip
        for step in range(chains.num_steps):
            chains.step(step)
        values.append(chains.estimate().llc)
    return abs(values[1] / values[0] - 1)


def _teacher_data(truth: torch.nn.Module, count: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x uniform on [-10, 10], y the truth's exact outputs."""
    width = next(truth.parameters()).shape[1]
    x = (20 * torch.rand(count, width, generator=torch_stream(seed, "data")) - 10).to(device)
    with torch.no_grad():
        return x, truth(x)


# -- E5: MALA against SGLD --------------------------------------------------------------------------------------------


def mala_vs_sgld(config: MalaVsSgld, run: Run) -> None:
    """One chain per seed at the same truth and data, timed."""
    run.each_seed(_timed_chain)


def _timed_chain(config: MalaVsSgld, run: Run) -> None:
    (seed,) = config.seeds
    device = device_of(config)
    truth = ReluMlp(config.widths, seed=config.truth_seed).to(device)
    x, y = _teacher_data(truth, config.num_data, config.truth_seed, device)
    _generated(run, "uniform_inputs", config.num_data, (config.widths[0],), x)
    potential = ModelPotential(truth, mse_loss, (x, y))
    is_mala = config.sampler == "mala"
    settings = Sampling(
        sampler=config.sampler, step_size=config.step_size, num_steps=config.num_steps, chains=1, gamma=config.gamma,
        batch_size=None if is_mala else config.batch_size, burn_in=0.0, seed=seed, trace="after", order="fixed",
        acceptance_every=1 if is_mala else config.acceptance_every,
    )  # fmt: skip
    chains = Chains(potential, potential.centre, settings)
    state = training.State(**chains.parts())
    for iteration in training.loop(run, chains.num_steps, state, every=config.checkpoint_every):
        chains.step(iteration - 1)
    found = chains.estimate()
    if found.diverged:
        raise Diverged(found.warnings[0])
    _report_estimate(run, found, "llc")
    run.log(config.num_steps, {"network/parameters": potential.dimension})


# -- shared -----------------------------------------------------------------------------------------------------------


def _generated(run: Run, name: str, size: int, shape: tuple[int, ...], witness: Tensor) -> None:
    """Record data that was made here; `witness` depends on all of it."""
    digest = data.digest(witness.cpu().numpy())
    run.dataset(name, split="train", source="generated by reprod", digest=digest, size=size, shape=shape)


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan
