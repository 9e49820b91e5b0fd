"""E2: the learning coefficient of a ResNet18 along its training on CIFAR-10 (figure 18)."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from reprod import training
from reprod.errors import Diverged
from reprod.learning_coefficient.config import ResnetLlcCurve
from reprod.learning_coefficient.estimate import LlcEstimate, estimate_llc
from reprod.learning_coefficient.models import ResNet18
from reprod.learning_coefficient.reporting import finite, note_warnings
from reprod.machine import device_of
from reprod.run import Run
from reprod.training import stream, torch_stream


def resnet_llc_curve(config: ResnetLlcCurve, run: Run) -> None:
    """Train a ResNet18 on CIFAR-10 and estimate its learning coefficient along the way."""
    run.each_seed(_resnet_curve)


def _resnet_curve(config: ResnetLlcCurve, run: Run) -> None:
    from reprod.data import images

    (seed,) = config.seeds
    device = device_of(config.device)
    sets = {}
    for split, count in (("train", config.n_train), ("test", config.n_test)):
        loaded = images.load("cifar10", split, config.data_dir).first(count)
        run.dataset("cifar10", split=split, source=loaded.source, digest=loaded.digest, size=count, shape=(3, 32, 32))
        sets[split] = (torch.from_numpy(loaded.pixels).to(device), torch.from_numpy(loaded.labels).to(device))
    pixels, labels = sets["train"]
    # Training sees the noisy labels; the estimate is taken on the clean ones, as in the paper.
    noisy = _noisy(labels, config.label_noise, seed)
    model = ResNet18(config.width, seed=seed).to(device)
    params = list(model.parameters())
    if config.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(params, lr=config.learning_rate)
    else:
        optimizer = torch.optim.SGD(params, lr=config.learning_rate, momentum=config.momentum)

    recorded = [t for t in range(config.iterations) if t % config.eval_every == 0]
    recorded += [config.iterations - 1] if recorded[-1] != config.iterations - 1 else []
    names = (
        "llc", "llc_error", "initial_loss", "train_loss", "test_loss", "test_loss_no_reg", "train_accuracy",
        "test_accuracy",
    )  # fmt: skip
    table = {name: np.full(len(recorded), np.nan) for name in names}
    traces = np.full((len(recorded), config.chains, config.sgld_steps), np.nan, dtype=np.float32)
    state = training.State(model=model, optimizer=optimizer, traces=traces, **table)
    per_epoch, epoch, order = -(-len(labels) // config.batch_size), -1, torch.empty(0)

    def healthy() -> bool:
        return all(bool(torch.isfinite(p).all()) for p in params)

    for iteration in training.loop(
        run, config.iterations, state, every=config.checkpoint_every, healthy=healthy
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
        if not math.isfinite(evaluated["train"][0]):
            raise Diverged(f"the loss of the training set is not finite at step {iteration}")
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
        run.log(iteration, finite({
            "llc/estimate": found.llc, "train/loss": values["train_loss"], "train/accuracy": values["train_accuracy"],
            "test/loss": values["test_loss"], "test/accuracy": values["test_accuracy"],
        }))  # fmt: skip
        note_warnings(run, found, f"llc.warnings.{iteration}")
    if not np.isfinite(table["llc"]).any():
        raise Diverged(
            f"no estimate: every chain of SGLD diverged at every record; lower step_size (now {config.step_size:g})"
        )
    curve = pd.DataFrame({"iteration": np.array(recorded) + 1, **table})
    units = dict.fromkeys(("initial_loss", "train_loss", "test_loss", "test_loss_no_reg"), "nats")
    run.table("curve", curve, units=units, about="train_loss is that of the iteration's minibatch, before its step")
    about = "SGLD losses, a row for each of the table `curve`"
    run.array("loss_trace", traces, axes=("row", "chain", "draw"), about=about)
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
            step_size=config.step_size, num_steps=config.sgld_steps, chains=config.chains, gamma=config.gamma,
            batch_size=config.sgld_batch_size, burn_in=config.burn_in, seed=seed,
        )  # fmt: skip


def _penalty(params: list[torch.nn.Parameter], l2: float) -> Tensor | float:
    return l2 * sum(p.square().sum() for p in params) if l2 else 0.0


def _noisy(labels: Tensor, level: float, seed: int, classes: int = 10) -> Tensor:
    """A share of the labels replaced by uniform ones, which may equal the old."""
    replaced = labels.clone()
    generator = torch_stream(seed, "label_noise")
    chosen = torch.randperm(len(labels), generator=generator)[: int(level * len(labels))]
    replaced[chosen.to(labels.device)] = torch.randint(classes, (len(chosen),), generator=generator).to(labels.device)
    return replaced


def _evaluate(model: torch.nn.Module, pixels: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy, BatchNorm with running statistics."""
    model.eval()
    with torch.no_grad():
        outputs = torch.cat([model(x) for x in pixels.split(1000)])
    return float(cross_entropy(outputs, labels)), float((outputs.argmax(1) == labels).float().mean())
