"""The experiment of Marion et al. (2024) on CIFAR-10: figure 3, table 1 and the additional plot of the appendix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reprod.data.images import Images
from reprod.machine import device_of
from reprod.run import Run
from reprod.training import State, loop

from . import conv, pictures
from .config import CifarResnet


def cifar(config: CifarResnet, run: Run) -> None:
    """Train the convolutional network of each seed on CIFAR-10; measure how smooth its weights are in the layer."""
    run.each_seed(_cifar)


def cosine(start: float, epoch: int, epochs: int) -> float:
    """The learning rate: to 0, constant inside an epoch, start/2 (1 + cos(pi e / epochs)), e = 0 ... epochs - 1."""
    return start / 2 * (1 + np.cos(np.pi * epoch / epochs))


def optimizer(config: CifarResnet, model: conv.ConvResnet) -> torch.optim.SGD:
    """One SGD over all parameters, weight decay on all of them. `adaptive`: stem and head start from 0.01."""
    residual = list(model.layers.parameters())
    inside = {id(p) for p in residual}
    others = [p for p in model.parameters() if id(p) not in inside]
    outer = 0.01 if config.adaptive else config.learning_rate
    groups = [{"params": residual, "base": config.learning_rate}, {"params": others, "base": outer}]
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)


def _cifar(config: CifarResnet, run: Run) -> None:
    device = device_of(config.device)
    train = pictures.load(config.dataset, "train", config.data_dir, config.n_train)
    test = pictures.load(config.dataset, "test", config.data_dir, config.n_test)
    for part in (train, test):
        run.dataset(
            part.name, split=part.split, source=part.source, digest=part.digest, size=len(part), shape=(3, 32, 32)
        )
    if config.dataset == "synthetic":
        run.note("data", "synthetic images, as dataset=synthetic asks")
    seed = config.seeds[0]
    arguments: dict[str, Any] = {
        "depth": config.depth, "planes": config.channels, "sigma": config.activation, "bn": config.batch_norm,
        "init": config.init,
    }  # fmt: skip
    model = conv.build(seed, **arguments)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = [conv.convolutions(model, i).clone() for i in (1, 2)]
    sgd = optimizer(config, model)
    pixels, labels = torch.from_numpy(train.pixels), torch.from_numpy(train.labels)
    steps = -(-len(train) // config.batch_size)
    history: dict[str, Any] = {"epochs": [], "smoothness": [], "loss": 0.0, "correct": 0}
    state = State(model=model, optimizer=sgd, history=history)
    epoch_number, epoch = -1, None

    def healthy() -> bool:
        losses = [row[f"{split}_loss"] for row in history["epochs"] for split in ("train", "test")]
        return bool(np.isfinite([history["loss"], *losses]).all())

    for iteration in loop(run, config.epochs * steps, state, every=config.checkpoint_every, healthy=healthy):
        e, step = divmod(iteration - 1, steps)
        if e != epoch_number:
            epoch_number, epoch = e, pictures.Epoch(seed, e, len(train))
            for group in sgd.param_groups:
                group["lr"] = cosine(group["base"], e, config.epochs)
        assert epoch is not None
        x, index = epoch.batch(pixels, step * config.batch_size, config.batch_size)
        x = pictures.normalise(x.to(device)).contiguous(memory_format=torch.channels_last)
        y = labels[index].to(device)
        model.train()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        history["loss"] += loss.item()
        history["correct"] += int((logits.argmax(1) == y).sum())
        if step == steps - 1:
            test_loss, test_accuracy = evaluate(model, test, device)
            row = {
                "epoch": e + 1, "train_loss": history["loss"] / steps,
                "train_accuracy": history["correct"] / len(train),
                "test_loss": test_loss, "test_accuracy": test_accuracy,
            }  # fmt: skip
            history["epochs"].append(row)
            history["loss"], history["correct"] = 0.0, 0
            history["smoothness"] += _smoothness(model, start, e + 1)
            _log(run, row, history["smoothness"][-2:])
    _report(run, model, history, start)
    example = pictures.normalise(torch.from_numpy(test.pixels[:2]))
    run.model(model.to("cpu", memory_format=torch.contiguous_format), arguments=arguments, example=example)  # type: ignore[call-overload]


def _smoothness(model: conv.ConvResnet, start: list[Tensor], epoch: int) -> list[dict[str, float]]:
    """How smooth the weights of convolutions 1 and 2 are in the layer, and how far they are from their start."""
    found = []
    for i, before in enumerate(start, 1):
        c = conv.convolutions(model, i)
        moved = float((c - before).norm() / torch.maximum(c.norm(), before.norm()))
        found.append({"epoch": epoch, "convolution": i, **conv.smoothness(c), "moved": moved})
    return found


def _log(run: Run, row: dict[str, float], smoothness: list[dict[str, float]]) -> None:
    values = {f"{split}/{what}": row[f"{split}_{what}"] for split in ("train", "test") for what in ("loss", "accuracy")}
    for each in smoothness:
        names = [name for name in ("increment", "ratio", "autocorrelation", "moved") if np.isfinite(each[name])]
        values |= {f"smooth/{name}_{each['convolution']}": each[name] for name in names}
    run.log(int(row["epoch"]), values)


def evaluate(model: nn.Module, test: Images, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (a fraction), in evaluation mode, batches of 100 without augmentation."""
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for first in range(0, len(test), 100):
            x = pictures.normalise(torch.from_numpy(test.pixels[first : first + 100]).to(device))
            y = torch.from_numpy(test.labels[first : first + 100]).to(device)
            logits = model(x.contiguous(memory_format=torch.channels_last))
            loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
            correct += int((logits.argmax(1) == y).sum())
    return loss / len(test), correct / len(test)


def _report(run: Run, model: conv.ConvResnet, history: dict[str, Any], start: list[Tensor]) -> None:
    about = "train: in training mode, on augmented images, while the weights move; test: after the epoch"
    epochs = pd.DataFrame(history["epochs"])
    run.table("epochs", epochs, units={"train_loss": "nats", "test_loss": "nats"}, about=about)
    about = (
        "increment: mean_k |c_{k+1} - c_k|; ratio: that over mean_k |c_k|; autocorrelation: at lag 1 over k; "
        "moved: |c - start| over the larger of |c| and |start|"
    )
    run.table("smoothness", pd.DataFrame(history["smoothness"]), about=about)
    for i, before in enumerate(start, 1):
        c = conv.convolutions(model, i)
        run.array(f"conv{i}", c, axes=("k", "entry"), about=f"weights of convolution {i} of each layer, at the end")
        run.array(f"conv{i}_start", before, axes=("k", "entry"), about=f"weights of convolution {i} at the start")
    run.log(len(epochs), {f"{split}/accuracy_max": epochs[f"{split}_accuracy"].max() for split in ("train", "test")})
