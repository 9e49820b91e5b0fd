"""The experiments of Ott et al. 2021: train a Neural ODE through one solver, test it with others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprod import data
from reprod.data import images, spheres
from reprod.errors import Diverged
from reprod.neural_ode import adaptation, batched, crossings, xor
from reprod.neural_ode.config import ADAPTIVE, Images, NeuralOde, SphereOde, XorFan
from reprod.neural_ode.evaluation import SolverSetting, as_input, solver_grid
from reprod.neural_ode.learners import Autograd, Batched, Learner
from reprod.neural_ode.models import NETWORKS, OdeClassifier
from reprod.neural_ode.solvers import SOLVERS
from reprod.run import Run
from reprod.training import State, loop, stream, torch_stream

TABLE = ("kind", "solver", "factor", "value", "accuracy", "nfe")  # columns of the array `tests`
KINDS = ("as trained", "grid", "check", "strict")  # as trained; solvers x factors; the two of the valid-ODE rule
CHECK = ("iteration", "checked_with", "test_value", "accuracy", "test_accuracy", "coarse_accuracy", "nfe", "value")
SOLVER_NAMES = tuple(SOLVERS)  # a solver's number in an array is its place here


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
    device = choose_device(config)
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
        learner = Batched(networks, config.lr)
    else:
        learner = Autograd(networks[0], config.lr, config.batch_size)
    batches = Batches(config, examples)
    rule = adaptation_rule(config)
    solver: dict[str, Any] = first_solver(config, rule, networks[0], batches)
    n_seeds, n_evals = len(config.seeds), config.niter // config.eval_every
    history: dict[str, Any] = {
        "loss": torch.zeros(n_seeds, config.niter, device=device),
        "hits": torch.zeros(n_seeds, config.niter, dtype=torch.int32, device=device),
        "nfe": torch.zeros(3, config.niter, dtype=torch.int32),  # forward, backward, with all checks
        "solver_value": torch.zeros(config.niter, dtype=torch.float64),
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
    for iteration in loop(run, config.niter, state, every=config.checkpoint_every, healthy=healthy, status=status):
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
                history["checks"].append(_numbers(iteration, check))
                nfe += check.evaluations
        history["nfe"][:, iteration - 1] = torch.tensor([forward.nfe, forward.nfe_backward, nfe])
        learner.update()
        if iteration % config.eval_every == 0:
            log(config, children, history, iteration)

    own = trained_with(config, solver)
    tests = tests_of(config, own)
    results = learner.evaluate(examples.x_test, examples.y_test, [test for _, test in tests])
    for index, (child, model) in enumerate(zip(children, learner.models(), strict=True)):
        if not bool(history["loss"][index].isfinite().all()):
            reason = f"the loss of seed {child.seed} left the finite numbers"
            if len(children) == 1:
                raise Diverged(reason)
            child.fail(reason)
            continue
        report(config, child, history, index)
        rows = [(KINDS.index(kind), SOLVER_NAMES.index(t.solver), t.factor, t.value) for kind, t in tests]
        table = np.column_stack([rows, results.accuracy[index], results.evaluations[index]])
        about = f"columns {', '.join(TABLE)}; kind: {', '.join(KINDS)}; solver: place in {', '.join(SOLVER_NAMES)}"
        child.array("tests", table, axes=("test", "column"), about=about, exact=True)
        child.log(config.niter, {"test/accuracy": float(table[0, 4]), "test/accuracy_finest": finest(table)})
        if isinstance(config, SphereOde):
            report_geometry(config, child, model, own, examples)
        example = as_input(examples.x_test[:2]).cpu()
        child.model(model, arguments={**model.arguments}, example=example)
    if isinstance(config, SphereOde) and isinstance(learner, Batched):
        report_curve(config, children, learner, examples)


def choose_device(config: NeuralOde) -> torch.device:
    tiny = isinstance(config, SphereOde) and config.dataset != "concentric_sphere900"  # latency alone on a GPU
    name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() and not tiny else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    return torch.device(name)


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
            return {"step_size": adaptation.initial_step(model.field, x, SOLVERS[config.solver].order)}
    if isinstance(rule, adaptation.ToleranceRule):
        return adaptation.initial_tolerance(rule)
    return {"tol": config.tol} if config.solver in ADAPTIVE else {"step_size": config.step_size}


def trained_with(config: NeuralOde, solver: dict[str, Any]) -> SolverSetting:
    return SolverSetting(config.solver, 1.0, solver["tol" if config.solver in ADAPTIVE else "step_size"])


def adapt(
    rule: Any, solver: dict[str, Any], learner: Learner, x: Tensor, y: Tensor, accuracy: float
) -> adaptation.Check:
    def evaluate(name: str, value: float) -> tuple[float, int]:
        hits, nfe = learner.hits(x, y, SolverSetting(name, 1.0, value))
        return hits / y.shape[1], nfe

    update = adaptation.adapt_step if isinstance(rule, adaptation.StepRule) else adaptation.adapt_tolerance
    return update(rule, solver, accuracy, evaluate)


def probe(config: NeuralOde, learner: Learner, examples: Examples, own: SolverSetting, iteration: int) -> list[float]:
    """Accuracy on test examples with the solver of training and with finer ones at the same step, at a check
    (figure 5 c)."""
    names = ("midpoint", "rk4") if own.tol is None else ("dopri5",)
    tests = [own, *(SolverSetting(name, 1.0, own.value if own.tol is None else own.value / 10) for name in names)]
    n = config.probe
    accuracy = learner.evaluate(examples.x_test[:n], examples.y_test[:n], tests).accuracy[0]
    return [iteration, *map(float, accuracy)]


def _numbers(iteration: int, check: adaptation.Check) -> list[float]:
    return [
        iteration, SOLVER_NAMES.index(check.test_solver), check.test_value, check.accuracy, check.test_accuracy,
        check.coarse_accuracy, check.evaluations, check.value,
    ]  # fmt: skip


# -- what is reported -----------------------------------------------------------------------------------------------


def log(config: NeuralOde, children: list[Run], history: dict[str, Any], iteration: int) -> None:
    """A point of every curve that a person watches: means since the last one."""
    recent = slice(iteration - config.eval_every, iteration)
    loss, hits = history["loss"][:, recent].mean(1), history["hits"][:, recent].float().mean(1)
    value, nfe = float(history["solver_value"][iteration - 1]), history["nfe"][:, recent].double().mean(1)
    shared = {"nfe/forward": float(nfe[0]), "tol" if config.solver in ADAPTIVE else "step_size": value}
    if config.adjoint:
        shared["nfe/backward"] = float(nfe[1])
    if config.adaptation != "none":
        shared["nfe/with_checks"] = float(nfe[2])
    accuracy = history["test_accuracy"][:, iteration // config.eval_every - 1]
    for index, child in enumerate(children):
        own = {"train/loss": float(loss[index]), "train/accuracy": float(hits[index]) / config.batch_size}
        child.log(iteration, {**own, "test/accuracy": float(accuracy[index]), **shared})


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
    about = "evaluations of the field: forward, backward (adjoint), forward with those of all checks"
    child.array("nfe", history["nfe"], axes=("kind", "iteration"), unit="1", about=about)
    about = f"test accuracy at the iterations {config.eval_every}, {2 * config.eval_every}, ..., before the update"
    child.array("test_accuracy", history["test_accuracy"][index], axes=("evaluation",), unit="1", about=about)
    total = history["nfe"].double().mean(1)
    child.log(config.niter, {"nfe/mean": float(total[0]), "nfe/mean_with_checks": float(total[2])})
    if config.adaptation != "none":
        checks = np.array(history["checks"]).reshape(-1, len(CHECK))
        child.array("checks", checks, axes=("check", "column"), about=f"columns {', '.join(CHECK)}", exact=True)
        finer = "midpoint, rk4 at the same step" if name == "step_size" else "dopri5 at a tenth of the tolerance"
        about = f"iteration, test accuracy with the training solver, with {finer}, before the check"
        width = 4 if name == "step_size" else 3
        child.array(
            "probes", np.array(history["probes"]).reshape(-1, width), axes=("check", "column"), about=about, exact=True
        )


def tests_of(config: NeuralOde, own: SolverSetting) -> list[tuple[str, SolverSetting]]:
    """The solver of training, all solvers with all factors, and the two tests of the valid-ODE rule (section 1.1): the
    step adaptation's test solver, and Euler at h / 16."""
    grid = solver_grid(own.value, config.solvers_to_test(), config.factors_to_test(), config.factor_on)
    tests = [("as trained", own), *(("grid", test) for test in grid)]
    if config.solver in ("euler", "midpoint"):
        name, step = adaptation.select_test_solver(adaptation.StepRule(config.solver), own.value)
        tests.append(("check", SolverSetting(name, step / own.value, step)))
        tests.append(("strict", SolverSetting("euler", 1 / 16, own.value / 16)))
    return tests


def finest(table: np.ndarray) -> float:
    """Accuracy under the most accurate of the test solvers: the highest order, then the smallest step or tolerance."""
    orders = np.array([SOLVERS[SOLVER_NAMES[int(s)]].order for s in table[:, 1]])
    return float(table[np.lexsort((table[:, 3], -orders))[0], 4])


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
    path = model.trajectory(x, own.solver, own.step_size, own.tol).squeeze(2)
    axes = ("node", "point", "coordinate")
    child.array("trajectories", path, axes=axes, unit="1", about="states of test points at the solver's nodes")
    child.array("trajectory_labels", y, axes=("point",), about="classes of those points")
    crossed = crossings.count_crossings(path.cpu().double().numpy(), y.cpu().numpy())
    child.log(config.niter, {
        "crossings": float(crossed.crossings), "crossing_pairs": crossed.crossing_pairs / max(crossed.pairs, 1),
    })  # fmt: skip
    finer = own.value / 2
    halved = {"step_size": finer} if own.tol is None else {"tol": finer}
    own_end, fine_end = (
        model.flow(examples.x_test, own.solver, **settings)[0].squeeze(1)
        for settings in ({"step_size": own.step_size, "tol": own.tol}, halved)
    )
    axes = ("solver", "point", "coordinate")
    about = "final states of all test points: with the solver of training; with half its step or tolerance"
    child.array("final_states", torch.stack([own_end, fine_end]), axes=axes, unit="1", about=about)
    child.array("test_labels", examples.y_test, axes=("point",), about="classes of the test points")
    weights = torch.cat([model.classifier.weight, model.classifier.bias[:, None]], 1)
    child.array("classifier", weights, axes=("class", "w1 w2 b"), about="logits = w z + b of final states z")


def report_curve(config: SphereOde, children: list[Run], learner: Batched, examples: Examples) -> None:
    """Figure 1 c, d: accuracy against the number of Euler steps, 1, 2, 4, ..."""
    counts = [2**k for k in range(int(math.log2(config.curve_steps)) + 1)]
    tests = [SolverSetting("euler", 1.0, 1 / n) for n in counts]
    table = learner.evaluate(examples.x_test, examples.y_test, tests).accuracy
    for child, accuracy in zip(children, table, strict=True):
        if not child.failure:
            curve = np.array([counts, accuracy])
            child.array("euler_curve", curve, axes=("steps, accuracy", "test"), about="test accuracy by Euler steps")


# -- figure 3 -------------------------------------------------------------------------------------------------------


def fan(config: XorFan, run: Run) -> None:
    """Euler's bias makes XOR separable at a coarse step, and not at fine ones nor in the limit. Nothing is random: all
    seeds give the same."""
    for child in run.children():
        settings: dict[str, Any] = {
            "alpha": config.alpha,
            "beta": config.beta,
            "gamma": config.gamma,
            "delta": config.delta,
        }
        margins = []
        for exponent in config.log10_steps:
            times, states = xor.fan(10**exponent, end=config.end_time, **settings)
            margins.append(xor.separability_margin(states[-1], xor.LABELS))
            name = f"fan{spell_exponent(exponent)}"
            thin = np.unique(np.linspace(0, len(times) - 1, min(len(times), 2000)).astype(int))
            child.array(f"{name}/times", times[thin], axes=("node",), unit="1", about="times of Euler's nodes")
            axes, about = ("node", "point", "coordinate"), "states of (0,0), (1,1), (0,1), (1,0), at most 2000 nodes"
            child.array(f"{name}/states", states[thin], axes=axes, unit="1", about=about)
        _, limit = xor.fan(10 ** min(config.log10_steps), "rk4", end=config.end_time, **settings)
        margins.append(xor.separability_margin(limit[-1], xor.LABELS))
        child.array("limit", limit[-1], axes=("point", "coordinate"), unit="1", about="end points by rk4", exact=True)
        about = "margin for the step sizes 10^x, then for rk4; positive: linearly separable"
        child.array("margins", np.array(margins), axes=("solver",), unit="1", about=about, exact=True)
        names = [*(f"{exponent:g}" for exponent in config.log10_steps), "limit"]
        for step, (name, margin) in enumerate(zip(names, margins, strict=True)):
            child.log(step, {f"margin/{name}": margin})


def spell_exponent(exponent: float) -> str:
    return f"{exponent:g}".replace("-", "_")
