"""The experiments of Ott et al. 2021: train a Neural ODE through one solver, test it with others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprod import data
from reprod.data import images, spheres
from reprod.errors import Diverged
from reprod.neural_ode import adaptation, batched, crossings, xor
from reprod.neural_ode.config import ADAPTIVE, CHECKED_BY, Images, NeuralOde, SphereOde, XorFan
from reprod.neural_ode.evaluation import as_input, solver_grid
from reprod.neural_ode.learners import Autograd, Batched, Learner
from reprod.neural_ode.models import NETWORKS, OdeClassifier
from reprod.neural_ode.solvers import SOLVERS, SolverFailure, SolverSetting
from reprod.run import Run
from reprod.training import State, loop, stream, torch_stream

ABOUT_TESTS = (
    "test accuracy of the trained network. kind: as trained; grid, every test solver with every factor; check, the "
    "test solver of the step adaptation; strict, Euler with a sixteenth of the step. factor: value (step size or "
    "tolerance) over that of training. gave_up: share of the batches whose solve failed, which counts as wrong"
)
NFE = {"forward": "forward", "backward": "backward (of the adjoint)", "with_checks": "forward and in its check"}
ABOUT_CHECKS = (
    "checks of the adaptation: accuracy on the batch as trained, under the test solver (checked_with, with the step "
    "size or tolerance test_value), and under the coarser candidate (nan where none was tried); value is the step size "
    "or tolerance from here on"
)
CHECK = ("iteration", "checked_with", "test_value", "accuracy", "test_accuracy", "coarse_accuracy", "nfe", "value")


@dataclass
class Examples:
    """Training and test split on the device: inputs (n, 1, d) float or (n, c, H, W) uint8, labels (n,)."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    n_classes: int


def train(config: NeuralOde, run: Run) -> None:
    """Sections 3 to 5 of the paper. Small networks under a fixed-step solver train all seeds at once."""
    device = choose_device(config, run)
    examples = load(config, run, device)
    if config.adaptation == "none" and batched.supports(build(config, examples, config.seeds[0], device)):
        train_together(config, run, examples, device)
    else:
        run.each_seed(lambda alone, child: train_together(alone, child, examples, device))


def train_together(config: NeuralOde, run: Run, examples: Examples, device: torch.device) -> None:
    """Train the networks of `config.seeds` in step (one, unless they are small) and report to the run of each."""
    networks = [build(config, examples, seed, device) for seed in config.seeds]
    learner: Learner
    if batched.supports(networks[0]):
        learner = Batched(networks, config.learning_rate)
    else:
        learner = Autograd(networks[0], config.learning_rate, config.batch_size)
    batches = Batches(config, examples)
    rule = adaptation_rule(config)
    solver: dict[str, Any] = first_solver(config, rule, networks[0], batches)
    n_seeds, n_evals = len(config.seeds), config.iterations // config.eval_every
    history: dict[str, Any] = {
        "loss": torch.zeros(n_seeds, config.iterations, device=device),
        "hits": torch.zeros(n_seeds, config.iterations, dtype=torch.int32, device=device),
        "nfe": torch.zeros(3, config.iterations, dtype=torch.int32),  # forward, backward, with all checks
        "solver_value": torch.zeros(config.iterations, dtype=torch.float64),
        "test_accuracy": torch.zeros(n_seeds, n_evals, dtype=torch.float64),
        "checks": [],
        "probes": [],
    }
    state = State(**learner.parts(), batches=batches.parts(), solver=solver, history=history)
    children = run.children()

    def healthy() -> bool:
        return n_seeds > 1 or bool(history["loss"][0, max(0, iteration - 1)].isfinite())

    def status() -> str:
        return f"loss {history['loss'][:, iteration - 1].mean():.3f}"

    iteration = 0
    for iteration in loop(run, config.iterations, state, every=config.checkpoint_every, healthy=healthy, status=status):
        x, y = batches.next()
        setting = trained_with(config, solver)
        forward = learner.gradient(x, y, setting)
        history["loss"][:, iteration - 1] = forward.loss
        history["hits"][:, iteration - 1] = forward.hits
        history["solver_value"][iteration - 1] = setting.value
        nfe = forward.nfe
        if iteration % config.eval_every == 0:  # with the weights before this update, and the solver of training
            accuracy = learner.evaluate(examples.x_test, examples.y_test, [setting]).accuracy[:, 0]
            history["test_accuracy"][:, iteration // config.eval_every - 1] = torch.from_numpy(accuracy)
        if rule is not None:
            if isinstance(rule, adaptation.ToleranceRule):
                adaptation.remember(solver, forward.nfe)
            if iteration % config.adapt_every == 0:
                history["probes"].append(probe(config, learner, examples, setting, iteration))
                check = adapt(rule, solver, learner, x, y, int(forward.hits[0]) / config.batch_size)
                history["checks"].append([iteration, *check])
                nfe += check.evaluations
        history["nfe"][:, iteration - 1] = torch.tensor([forward.nfe, forward.nfe_backward, nfe])
        learner.update()
        if iteration % config.eval_every == 0 or iteration == config.iterations:
            log(config, children, history, iteration)

    own = trained_with(config, solver)
    tests = tests_of(config, own)
    results = learner.evaluate(examples.x_test, examples.y_test, [setting for _, _, setting in tests])
    for index, (child, model) in enumerate(zip(children, learner.models(), strict=True)):
        if not bool(history["loss"][index].isfinite().all()):
            reason = f"the loss of seed {child.seed} left the finite numbers"
            if len(children) == 1:
                raise Diverged(reason)
            child.fail(reason)
            continue
        report(config, child, history, index)
        table = pd.DataFrame({
            "kind": [kind for kind, _, _ in tests], "solver": [setting.name for _, _, setting in tests],
            "factor": [factor for _, factor, _ in tests], "value": [setting.value for _, _, setting in tests],
            "accuracy": results.accuracy[index], "nfe": results.evaluations[index], "gave_up": results.gave_up[index],
        })  # fmt: skip
        if (failed := table[table.gave_up > 0]).size:
            words = (f"{t.solver} {t.value:g} in {100 * t.gave_up:.0f} % of the batches" for t in failed.itertuples())
            child.note("gave_up", f"solves that gave up and count as wrong: {'; '.join(words)}")
        child.table("tests", table, units={"accuracy": "1", "nfe": "evaluations"}, about=ABOUT_TESTS)
        child.log(config.iterations, {"test/accuracy": float(table.accuracy[0]), "test/accuracy_finest": finest(table)})
        if isinstance(config, SphereOde):
            try:
                report_geometry(config, child, model, own, examples)
            except SolverFailure as error:  # all test points are one batch here, and half the tolerance is asked for
                child.note("geometry", f"no trajectories: {error}")
        example = as_input(examples.x_test[:2]).cpu()
        child.model(model, arguments={**model.arguments}, example=example)
    if isinstance(config, SphereOde) and config.has_curve:
        report_curve(config, children, learner, examples)


def choose_device(config: NeuralOde, run: Run) -> torch.device:
    """Where the run computes, which it also says: for small networks that is not what `auto` means elsewhere."""
    device = torch.device(config.computes_on())
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    for each in dict.fromkeys((run, *run.children())):
        each.note("device", name)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    return device


def load(config: NeuralOde, run: Run, device: torch.device) -> Examples:
    """The data set, resident on the device, and recorded as an input of every seed's run."""
    if isinstance(config, SphereOde):
        sphere = spheres.load(config.dataset, config.data_seed, config.data_scale)
        arrays = (sphere.x_train, sphere.y_train, sphere.x_test, sphere.y_test)
        name, source, n_classes = config.dataset, f"generated, data_seed={config.data_seed}", sphere.n_classes
    else:
        assert isinstance(config, Images)
        training = images.load(config.dataset, "train", config.data_dir)
        test = images.load(config.dataset, "test", config.data_dir)
        training, test = training.first(config.n_train or len(training)), test.first(config.n_test or len(test))
        arrays = (training.pixels, training.labels, test.pixels, test.labels)
        name, source, n_classes = config.dataset, training.source, 10
    for child in run.children():
        for split, x, y in (("train", *arrays[:2]), ("test", *arrays[2:])):
            child.dataset(name, split=split, source=source, digest=data.digest(x, y), size=len(y), shape=x.shape[1:])
    x_train, y_train, x_test, y_test = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays)
    return Examples(x_train, y_train, x_test, y_test, n_classes)


def build(config: NeuralOde, examples: Examples, seed: int, device: torch.device) -> OdeClassifier:
    """The network of a seed, with weights from the stream `init`."""
    common: dict[str, Any] = {
        "n_classes": examples.n_classes, "channels": config.channels, "activation": config.activation,
        "init": config.init, "init_scale": config.init_scale, "solver": config.solver, "adjoint": config.adjoint,
        "step_size": config.step_size or 1.0, "tol": config.tol or config.initial_tol,
        "clip_last_step": config.clip_last_step, "precision": config.precision, "generator": torch_stream(seed, "init"),
    }  # fmt: skip
    shape = tuple(examples.x.shape[1:])
    if isinstance(config, SphereOde):
        return NETWORKS[config.network](dim=shape[-1], **common).to(device)
    return NETWORKS["odenet"](shape=shape, **common).to(device)


class Batches:
    """Mini-batches (S, B, ...) of every seed in its own order: reshuffled every epoch, the last partial one dropped."""

    def __init__(self, config: NeuralOde, examples: Examples):
        self.examples, self.size = examples, config.batch_size
        self.streams = {str(seed): stream(seed, "batches") for seed in config.seeds}
        self.order = torch.zeros(len(config.seeds), len(examples.y), dtype=torch.int64)
        self.position = {"next": len(examples.y)}

    def next(self) -> tuple[Tensor, Tensor]:
        first = self.position["next"]
        if first + self.size > self.order.shape[1]:
            for row, generator in zip(self.order, self.streams.values(), strict=True):
                row.copy_(torch.from_numpy(generator.permutation(len(row))))
            first = 0
        self.position["next"] = first + self.size
        chosen = self.order[:, first : first + self.size].to(self.examples.x.device)
        return self.examples.x[chosen], self.examples.y[chosen]

    def parts(self) -> dict[str, Any]:
        return {"streams": self.streams, "order": self.order, "position": self.position}


# -- adaptation -----------------------------------------------------------------------------------------------------


def adaptation_rule(config: NeuralOde) -> adaptation.StepRule | adaptation.ToleranceRule | None:
    if config.adaptation == "step":
        check_with = None if config.check_with == "auto" else config.check_with
        return adaptation.StepRule(config.solver, config.threshold, config.max_steps, check_with=check_with)
    if config.adaptation == "tolerance":
        return adaptation.ToleranceRule(config.solver, config.initial_tol, config.threshold)
    return None


def first_solver(config: NeuralOde, rule: Any, model: OdeClassifier, batches: Batches) -> dict[str, Any]:
    """Step or tolerance to begin with; finding the step of the adaptation consumes a batch."""
    if isinstance(rule, adaptation.StepRule):
        x = as_input(batches.next()[0][0]).to(model.classifier.weight.dtype)
        with torch.no_grad():
            return {"step_size": adaptation.first_step(rule, model.field, x)}
    if isinstance(rule, adaptation.ToleranceRule):
        return adaptation.initial_tolerance(rule)
    return {"tol": config.tol} if config.solver in ADAPTIVE else {"step_size": config.step_size}


def trained_with(config: NeuralOde, solver: dict[str, Any]) -> SolverSetting:
    return SolverSetting(config.solver, solver["tol" if config.solver in ADAPTIVE else "step_size"])


def adapt(
    rule: Any, solver: dict[str, Any], learner: Learner, x: Tensor, y: Tensor, accuracy: float
) -> adaptation.Check:
    def evaluate(name: str, value: float) -> tuple[float, int]:
        hits, nfe = learner.hits(x, y, SolverSetting(name, value))
        return hits / y.shape[1], nfe

    update = adaptation.adapt_step if isinstance(rule, adaptation.StepRule) else adaptation.adapt_tolerance
    return update(rule, solver, accuracy, evaluate)


def probe(config: NeuralOde, learner: Learner, examples: Examples, own: SolverSetting, iteration: int) -> list[float]:
    """Accuracy on test examples with the solver of training and with finer ones at the same step, at a check
    (figure 5 c)."""
    value = own.value / 10 if own.scheme.adaptive else own.value
    settings = [own, *(SolverSetting(name, value) for name in probed_with(config))]
    n = config.probe
    accuracy = learner.evaluate(examples.x_test[:n], examples.y_test[:n], settings).accuracy[0]
    return [iteration, *map(float, accuracy)]


def probed_with(config: NeuralOde) -> tuple[str, ...]:
    return ("dopri5",) if config.solver in ADAPTIVE else ("midpoint", "rk4")


# -- what is reported -----------------------------------------------------------------------------------------------


def log(config: NeuralOde, children: list[Run], history: dict[str, Any], iteration: int) -> None:
    """A point of every curve that a person watches: means since the last one. The test accuracy of the last iteration
    is left to the trained network, after the last update."""
    recent = slice((iteration - 1) // config.eval_every * config.eval_every, iteration)
    loss, hits = history["loss"][:, recent].mean(1), history["hits"][:, recent].float().mean(1)
    value, nfe = float(history["solver_value"][iteration - 1]), history["nfe"][:, recent].double().mean(1)
    shared = {"nfe/forward": float(nfe[0]), "tol" if config.solver in ADAPTIVE else "step_size": value}
    if config.adjoint:
        shared["nfe/backward"] = float(nfe[1])
    if config.adaptation != "none":
        shared["nfe/with_checks"] = float(nfe[2])
    for index, child in enumerate(children):
        own = {"train/loss": float(loss[index]), "train/accuracy": float(hits[index]) / config.batch_size}
        if iteration < config.iterations:
            own["test/accuracy"] = float(history["test_accuracy"][index, iteration // config.eval_every - 1])
        child.log(iteration, {**own, **shared})


def report(config: NeuralOde, child: Run, history: dict[str, Any], index: int) -> None:
    """The full curves of one seed."""
    iteration = ("iteration",)
    child.array("loss", history["loss"][index], axes=iteration, unit="nats", about="mean cross-entropy of the batch")
    accuracy = history["hits"][index].double() / config.batch_size
    child.array("train_accuracy", accuracy, axes=iteration, unit="1", about="accuracy on the batch, before the update")
    name = "tol" if config.solver in ADAPTIVE else "step_size"
    child.array(
        name, history["solver_value"], axes=iteration, unit="1", about=f"{name} of the training solver", exact=True
    )
    for kind, nfe in zip(NFE, history["nfe"], strict=True):
        about = f"evaluations of the field in an iteration, {NFE[kind]}"
        child.array(f"nfe/{kind}", nfe, axes=iteration, unit="1", about=about)
    about = f"test accuracy at the iterations {config.eval_every}, {2 * config.eval_every}, ..., before the update"
    child.array("test_accuracy", history["test_accuracy"][index], axes=("evaluation",), unit="1", about=about)
    total = history["nfe"].double().mean(1)
    child.log(config.iterations, {"nfe/mean": float(total[0]), "nfe/mean_with_checks": float(total[2])})
    if config.adaptation != "none":
        checks = pd.DataFrame(history["checks"], columns=list(CHECK))
        child.table("checks", checks, units={"accuracy": "1", "nfe": "evaluations"}, about=ABOUT_CHECKS)
        finer = "midpoint and rk4 at the same step" if name == "step_size" else "dopri5 at a tenth of the tolerance"
        about = f"test accuracy just before each check: as trained, and with {finer}"
        probes = pd.DataFrame(history["probes"], columns=["iteration", "as trained", *probed_with(config)])
        child.table("probes", probes, about=about)


def tests_of(config: NeuralOde, own: SolverSetting) -> list[tuple[str, float, SolverSetting]]:
    """(kind, factor, setting): the solver of training, all solvers with all factors, and the two tests of the valid-ODE
    rule (section 1.1): the step adaptation's test solver, and Euler at h / 16."""
    grid = solver_grid(own.value, config.solvers_to_test(), config.factors_to_test(), config.factor_on)
    tests = [("as trained", 1.0, own), *(("grid", factor, setting) for factor, setting in grid)]
    if config.solver in CHECKED_BY:
        name, step = adaptation.select_test_solver(adaptation.StepRule(config.solver), own.value)
        tests.append(("check", step / own.value, SolverSetting(name, step)))
        tests.append(("strict", 1 / 16, SolverSetting("euler", own.value / 16)))
    return tests


def finest(tests: pd.DataFrame) -> float:
    """Accuracy under the most accurate of the test solvers: the highest order, then the smallest step or tolerance."""
    orders = tests.solver.map(lambda name: SOLVERS[name].order).to_numpy()
    return float(tests.accuracy.iloc[np.lexsort((tests.value, -orders))[0]])


@torch.no_grad()
def report_geometry(
    config: SphereOde, child: Run, model: OdeClassifier, own: SolverSetting, examples: Examples
) -> None:
    """Figures 1 and 2: trajectories and final states of test points in the plane, and the classifier's line."""
    if examples.x.shape[-1] != 2:
        return
    n = config.n_trajectories
    chosen = torch.linspace(0, len(examples.y_test) - 1, n).long()
    x, y = examples.x_test[chosen], examples.y_test[chosen]
    path = model.trajectory(x, own).squeeze(2)
    axes = ("node", "point", "coordinate")
    child.array("trajectories", path, axes=axes, unit="1", about="states of test points at the solver's nodes")
    child.array("trajectory_labels", y, axes=("point",), about="classes of those points")
    crossed = crossings.count_crossings(path.cpu().double().numpy(), y.cpu().numpy())
    child.log(config.iterations, {
        "crossings": float(crossed.crossings), "crossing_pairs": crossed.crossing_pairs / max(crossed.pairs, 1),
    })  # fmt: skip
    own_end, fine_end = (model.flow(examples.x_test, each)[0].squeeze(1) for each in (own, own.finer(2)))
    axes = ("as trained, halved", "point", "coordinate")
    about = "final states of all test points: with the solver of training; with half its step or tolerance"
    child.array("final_states", torch.stack([own_end, fine_end]), axes=axes, unit="1", about=about)
    child.array("test_labels", examples.y_test, axes=("point",), about="classes of the test points")
    weights = torch.cat([model.classifier.weight, model.classifier.bias[:, None]], 1)
    child.array("classifier", weights, axes=("class", "w1 w2 b"), about="logits = w z + b of final states z")


def report_curve(config: SphereOde, children: list[Run], learner: Learner, examples: Examples) -> None:
    """Figure 1 c, d: accuracy against the number of Euler steps, 1, 2, 4, ..."""
    counts = [2**k for k in range(int(math.log2(config.curve_steps)) + 1)]
    table = learner.evaluate(examples.x_test, examples.y_test, [SolverSetting("euler", 1 / n) for n in counts]).accuracy
    for child, accuracy in zip(children, table, strict=True):
        if not child.failure:
            curve = pd.DataFrame({"steps": counts, "accuracy": accuracy})
            child.table("euler_curve", curve, units={"accuracy": "1"}, about="test accuracy by number of Euler steps")


# -- figure 3 -------------------------------------------------------------------------------------------------------


def fan(config: XorFan, run: Run) -> None:
    """Euler's bias makes XOR separable at a coarse step, and not at fine ones nor in the limit. Nothing is random: all
    seeds give the same."""
    field = {"alpha": config.alpha, "beta": config.beta, "gamma": config.gamma, "delta": config.delta}
    finest = min(config.log10_steps)
    solves = [*(("euler", exponent) for exponent in config.log10_steps), ("rk4", finest)]  # rk4 stands for the limit
    for child in run.children():
        margins = []
        for solver, exponent in solves:
            times, states = xor.fan(SolverSetting(solver, 10**exponent), end=config.end_time, **field)
            if not np.isfinite(states[-1]).all():
                raise Diverged(f"the trajectories of {solver} with a step of 10^{exponent:g} left the finite numbers")
            margins.append(xor.separability_margin(states[-1], xor.LABELS))
            if solver == "rk4":
                about = "end points by rk4"
                child.array("limit", states[-1], axes=("point", "coordinate"), unit="1", about=about, exact=True)
                continue
            name = f"fan{spell_exponent(exponent)}"
            thin = np.unique(np.linspace(0, len(times) - 1, min(len(times), 2000)).astype(int))
            child.array(f"{name}/times", times[thin], axes=("node",), unit="1", about="times of Euler's nodes")
            axes, about = ("node", "point", "coordinate"), "states of (0,0), (1,1), (0,1), (1,0), at most 2000 nodes"
            child.array(f"{name}/states", states[thin], axes=axes, unit="1", about=about)
        table = pd.DataFrame(solves, columns=["solver", "log10_step_size"]).assign(margin=margins)
        child.table("margins", table, about="separability margin of the end points; positive: linearly separable")
        child.log(0, {"margin/coarsest": margins[int(np.argmax(config.log10_steps))], "margin/limit": margins[-1]})


def spell_exponent(exponent: float) -> str:
    return f"{exponent:g}".replace("-", "_")
