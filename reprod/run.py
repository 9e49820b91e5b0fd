"""What an experiment reports to. `Run` keeps everything in memory (a notebook needs no more); `tracking.MlflowRun`
sends the same calls to the store.

    def train(config: CifarOde, run: Run) -> None:
        run.dataset("cifar10", split="train", digest=..., size=50_000, source=...)
        state = training.State(model=model, optimizer=optimizer, shuffle=generator, history=history)
        for iteration in training.loop(run, config.niter, state, every=config.checkpoint_every):
            ...
            if iteration % config.eval_every == 0:
                run.log(iteration, {"train/loss": loss, "test/accuracy": accuracy})
        run.array("loss", history["loss"], axes=("iteration",), unit="nats", about="mini-batch cross-entropy")
        run.model(model, arguments=model.arguments, example=images[:2])

Several seeds are one parent with one child each. A batched computation reports to all of them at once,

    for child, trained in zip(run.children(), results): child.array(...)

and a serial one goes through them, skipping those that an earlier, interrupted attempt finished:

    run.each_seed(lambda config, child: train_one(config, child))

A run with one seed is its own only child, so an experiment is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reprod.config import Config, Named
from reprod.errors import BadInput, Diverged

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Array:
    """An array with its meaning. `axes` name the dimensions; `exact` keeps float64."""

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str = ""
    about: str = ""


@dataclass
class Table:
    """A table with its meaning: column names and words stand in it, not numbers that a reader must decode. `units`
    maps columns to units."""

    frame: pd.DataFrame
    units: Mapping[str, str] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True)
class Upstream:
    """The finished run that another builds on: its parameters, its arrays and tables, and where it comes from in
    words. `array(name)` raises `FileNotFoundError` for one that it does not have."""

    config: Any
    array: Callable[[str], np.ndarray]
    table: Callable[[str], pd.DataFrame]
    origin: str


Lookup = Callable[["Config | Named"], "Upstream | None"]


class Run:
    """A run in memory: `metrics[name]` is a list of (step, value), `arrays[name]` an `Array`, `tables[name]` a `Table`.

    `lookup` finds the finished runs that others build on; without it they are computed.
    """

    def __init__(self, config: Config, *, seed: int | None = None, lookup: Lookup | None = None):
        self.config = config
        self.seed = config.seeds[0] if len(config.seeds) == 1 else seed
        self.metrics: dict[str, list[tuple[int, float]]] = {}
        self.arrays: dict[str, Array] = {}
        self.tables: dict[str, Table] = {}
        self.models: dict[str, Any] = {}
        self.datasets: list[dict[str, Any]] = []
        self.notes: dict[str, str] = {}
        self.failure: str | None = None
        self.diverged = False
        self._children: list[Run] | None = None
        self._lookup = lookup

    # -- what an experiment calls ---------------------------------------------------------------------------------

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics at a step (the iteration, unless the experiment says otherwise). Thin them to what a person wants
        to see; the full curves belong in arrays."""
        for name, value in values.items():
            self.metrics.setdefault(name, []).append((int(step), float(value)))

    def array(
        self, name: str, values: Any, *, axes: Sequence[str], unit: str = "", about: str = "", exact: bool = False
    ) -> None:
        """A full-resolution curve, trace or table. `axes` has one word per dimension; float64 becomes float32 unless
        `exact`. Names may hold slashes."""
        self.arrays[checked_name(name)] = as_array(values, axes, unit, about, exact)

    def table(self, name: str, frame: pd.DataFrame, *, units: Mapping[str, str] | None = None, about: str = "") -> None:
        """A table of results: one row per thing, columns named, numbers exact, words as words. The index is not kept.
        `units` names the unit of columns that have one."""
        self.tables[checked_name(name)] = as_table(frame, units, about)

    def upstream(self, wanted: Config | Named) -> Upstream:
        """The finished run of a configuration with one seed, or the one that the user named: from the store where it
        is, else computed here, to the same bits. A tag of this run (`upstream`) says which.

        Raises `BadInput` for a named run that is not there.
        """
        found = self._lookup(wanted) if self._lookup else None
        if found is None:
            if isinstance(wanted, Named):
                raise BadInput(f"{wanted.parameter}={wanted.run_id}: there is no store here to look into")
            found = computed(wanted)
        self.note("upstream", found.origin)
        return found

    def model(self, module: Any, *, arguments: Mapping[str, Any], example: Any, name: str = "model") -> None:
        """A trained `torch.nn.Module`. `type(module)(**arguments)` must rebuild it (arguments are JSON); `example` is
        a small input batch (a tensor)."""
        self.models[name] = module

    def dataset(self, name: str, *, split: str, source: str, digest: str, size: int, shape: Sequence[int] = ()) -> None:
        """A data set that the run used: `digest` is a sha256 over all of it, `shape` that of one example."""
        self.datasets.append(
            {"name": name, "split": split, "source": source, "digest": digest, "size": size, "shape": tuple(shape)}
        )

    def note(self, name: str, text: str) -> None:
        """A short fact about the run that is no number (a tag): the reason of a fall-back, a chosen solver."""
        self.notes[name] = text

    def fail(self, reason: str) -> None:
        """This run (one seed of a batch, say) diverged and has no valid result; the others go on."""
        self.failure, self.diverged = self.failure or reason, True

    # -- seeds ----------------------------------------------------------------------------------------------------

    def children(self) -> list[Run]:
        """One run per seed, in the order of `config.seeds`; with one seed, the run itself."""
        if len(self.config.seeds) == 1:
            return [self]
        if self._children is None:
            self._children = [self._child(self.config.for_seed(seed)) for seed in self.config.seeds]
        return self._children

    def each_seed(self, function: Callable[[Any, Run], None]) -> None:
        """Call `function(config of one seed, its run)` for every seed that is not finished yet. A seed that diverges
        fails alone; the others go on."""
        for child in self.children():
            if child.done:
                continue
            try:
                function(child.config, child)
            except Diverged as error:
                if child is self:
                    raise
                child.fail(str(error))
            if child is not self:
                child.finish()

    @property
    def done(self) -> bool:
        """Already finished by an earlier attempt (of a resumed parent)."""
        return False

    def finish(self) -> None:
        """Settle the run; called by the core, not by experiments."""

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Keep a checkpoint. In memory there is none."""

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that can be read, as (iteration, state)."""
        return None

    def _child(self, config: Config) -> Run:
        return type(self)(config, lookup=self._lookup)


def computed(config: Config) -> Upstream:
    """Run an experiment in memory for another that builds on it."""
    from reprod import papers

    run = Run(config)
    papers.function(config.experiment)(config, run)
    if run.failure:
        raise Diverged(f"the run that this one builds on failed: {run.failure}")

    def array(name: str) -> np.ndarray:
        if name not in run.arrays:
            raise FileNotFoundError(f"{config.experiment} keeps no array {name}")
        return run.arrays[name].values

    def table(name: str) -> pd.DataFrame:
        if name not in run.tables:
            raise FileNotFoundError(f"{config.experiment} keeps no table {name}")
        return run.tables[name].frame

    return Upstream(config, array, table, "computed in this run: the store holds no finished run of these parameters")


def checked_name(name: str) -> str:
    """The name of an array or a table: a relative path. Raises `ValueError` for one that would leave the folder."""
    if "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{name!r} is no name of an array or a table: expected words, at most with slashes between")
    return name


def as_table(frame: pd.DataFrame, units: Mapping[str, str] | None, about: str) -> Table:
    import pandas as pd

    frame = pd.DataFrame(frame).reset_index(drop=True)
    if bad := [c for c in frame.columns if not isinstance(c, str) or not c]:
        raise TypeError(f"a column of a table needs a name, not {bad[0]!r}")
    if len(set(frame.columns)) < len(frame.columns):
        raise ValueError("two columns of a table have the same name")
    for column in frame.columns:
        _check_column(frame[column])
    if unknown := set(units or {}) - set(frame.columns):
        raise ValueError(f"units for columns that the table lacks: {', '.join(sorted(unknown))}")
    return Table(frame, dict(units or {}), about)


def _check_column(column: pd.Series) -> None:
    """Numbers, switches and words come back as they were; the rest is refused. (A missing word is an empty one.)"""
    if column.dtype.kind in "mM" or str(column.dtype) == "category":
        raise TypeError(f"the column {column.name} holds {column.dtype}: give numbers or words")
    if column.dtype == object and (odd := [v for v in column if not isinstance(v, str) and v is not None and v == v]):
        raise TypeError(f"the column {column.name} mixes words with {type(odd[0]).__name__}: give numbers or words")


def as_text(frame: pd.DataFrame) -> str:
    """A table as it is kept."""
    return frame.to_csv(index=False, lineterminator="\n")


def as_array(values: Any, axes: Sequence[str], unit: str, about: str, exact: bool) -> Array:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype == np.float64 and not exact:
        array = array.astype(np.float32)
    if array.dtype.hasobject:
        raise TypeError(f"an array of {array.dtype} cannot be stored without pickle")
    if len(axes) != array.ndim:
        raise ValueError(f"{array.ndim} dimensions need as many axes, not {tuple(axes)}")
    return Array(array, tuple(axes), unit, about)
