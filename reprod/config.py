"""One table of parameters per experiment: a frozen dataclass, from which command line, MLproject and store are made.

    @dataclass(frozen=True, kw_only=True)
    class CifarOde(Config):
        '''Neural ODE on CIFAR-10.'''                                  # first line: shown by `reprod list` and --help
        experiment = "cifar_ode"
        paper = "neural_ode"
        tol: float | None = param(1e-3, above=0, help="absolute and relative tolerance of an adaptive solver")
        channels: int = param(128, at_least=1, help="channels of the hidden convolutions")
        scales = {"small": {"channels": 16}, "smoke": {"channels": 4}}       # "paper" is the defaults themselves

        def check(self) -> None:                                       # what two parameters promise each other
            ...

`resolve(CifarOde, {"tol": "1e-3", "scale": "small"})` turns text into typed, validated values; every mistake is a
`BadInput` with one sentence. The spelling of a value is the same everywhere: `none`, `true`, `0.001`, `0,1,2`.
Types understood: int, float, str, bool, their `| None`, and tuples of int, float or str.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import operator
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from reprod.errors import BadInput, nearest

SCALES = ("paper", "medium", "small", "smoke")  # from the published settings down to seconds


def param(
    default: Any,
    *,
    help: str,
    choices: tuple[Any, ...] | None = None,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    identity: bool = True,
) -> Any:
    """A dataclass field with its range and help text.

    Bounds and choices hold for every element of a tuple. `identity=False` marks what does not change the result
    (where data lies, which device computes): such a parameter is recorded, but left out of the digest.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help, "choices": choices, "identity": identity,
            "above": above, "at_least": at_least, "below": below, "at_most": at_most,
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A run that the user named in a parameter (`training_run=ID`): a finished one of one of these experiments."""

    parameter: str
    run_id: str
    experiments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every experiment has. Subclasses set `experiment` and `paper` and add their parameters."""

    experiment: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    aliases: ClassVar[Mapping[str, str]] = {}  # other spellings of a parameter's name, those of the papers' scripts

    scale: str = param(
        "paper",
        choices=SCALES,
        identity=False,
        help="set of defaults: paper settings, medium (an hour or two), small (minutes), smoke (seconds)",
    )
    seeds: tuple[int, ...] = param((0,), at_least=0, help="seeds; several make one parent run with a child for each")
    data_dir: str = param(
        "auto", identity=False, help="folder of the data sets; auto: $REPROD_DATA, else ~/.cache/reprod/data"
    )
    device: str = param("auto", identity=False, help="auto, cpu, cuda or cuda:N")
    checkpoint_every: int = param(500, at_least=1, identity=False, help="iterations between two checkpoints")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_range(field, getattr(self, field.name))
        if self.scale == "medium" and "medium" not in self.scales:
            raise BadInput(
                f"scale=medium: {self.experiment} has none, its paper scale needs no GPU; use paper or small"
            )
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise BadInput(f"seeds={spell(self.seeds)}: give each seed once, and at least one")
        self.check()

    def check(self) -> None:
        """Raise `BadInput` where two parameters contradict each other. Pure: no files, no devices."""

    def prepare(self) -> None:
        """Raise `BadInput` where the machine lacks what the run needs (data, device). Called before a run is made."""
        check_device(self.device)

    def unused(self) -> set[str]:
        """Parameters without effect, given the values of the others (`tol` under Euler): left out of the digest."""
        return set()

    def work(self) -> float | None:
        """How much there is to compute, in any unit: by this ratio a run's time follows from one at another scale. None
        where nobody has said."""
        return None

    def upstream(self) -> tuple[Config | Named, ...]:
        """What the run builds on: configurations whose finished runs it asks for (`run.upstream(config)`), or runs that
        the user named. Checked before the run is made."""
        return ()

    def for_seed(self, seed: int) -> Config:
        """The same with one seed. Nothing is checked again: a plan asks for thousands of these."""
        alone = copy.copy(self)
        object.__setattr__(alone, "seeds", (seed,))
        return alone

    def spelled(self) -> dict[str, str]:
        """Every parameter in the one spelling that the command line, MLproject and store share."""
        return {field.name: spell(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def digest(self) -> str:
        """The identity of a run: 16 hex digits over experiment and all parameters that matter."""
        left_out = self.unused() | {f.name for f in dataclasses.fields(self) if not f.metadata.get("identity", True)}
        kept = {name: text for name, text in self.spelled().items() if name not in left_out}
        text = json.dumps({"experiment": self.experiment, **kept}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def given(self) -> dict[str, str]:
        """The parameters that differ from their scale's defaults, and the scale where it is not `paper`."""
        base = resolve(type(self), {"scale": self.scale}, check=False).spelled()
        changed = {name: text for name, text in self.spelled().items() if name != "scale" and text != base[name]}
        return changed if self.scale == "paper" else {"scale": self.scale, **changed}

    def command(self) -> str:
        """The shortest `reprod run` command that makes this run."""
        return " ".join(["reprod run", self.experiment, *(f"-P {name}={text}" for name, text in self.given().items())])

    def title(self) -> str:
        """A name that a person recognises in a list of runs: what differs comes first, for lists cut names off."""
        given = self.given()
        seeds = given.pop("seeds", "")
        names = {name: text for name, text in given.items() if name not in ("scale", "data_dir", "device")}
        words = [f"seed={self.seeds[0]}"] if len(self.seeds) == 1 else []
        words += [*(f"{name}={text}" for name, text in names.items()), self.experiment, f"({self.scale})"]
        return " ".join(words + ([f"seeds={seeds}"] if "," in seeds else []))[:250]


C = TypeVar("C", bound=Config)


def resolve(cls: type[C], values: Mapping[str, str], *, check: bool = True) -> C:
    """Text to a typed `Config`: what the user typed, over the scale's defaults, over the paper's."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    typed: dict[str, Any] = {}
    spellings: dict[str, str] = {}
    for given, text in values.items():
        name = cls.aliases.get(given, given)
        if name not in fields:
            raise BadInput(f"{cls.experiment} has no parameter {given!r}{nearest(given, [*fields, *cls.aliases])}")
        if name in typed:
            raise BadInput(f"{cls.experiment}: {name} is given twice, as {spellings[name]} and as {given}")
        typed[name], spellings[name] = _parse(cls, name, text), given
    scale = typed.get("scale", "paper")
    _check_range(fields["scale"], scale)
    settings = {**cls.scales.get(scale, {}), **typed}
    if not check:
        unchecked = object.__new__(cls)
        for name, field in fields.items():
            object.__setattr__(unchecked, name, settings.get(name, field.default))
        return unchecked
    return cls(**settings)


def at_scale(cls: type[C], scale: str, **settings: Any) -> C:
    """A typed `Config` at a scale, for code: `at_scale(CifarOde, "small", tol=0.1, seeds=(0, 1))`."""
    return cls(**{**cls.scales.get(scale, {}), **settings, "scale": scale})


def from_spelled(cls: type[C], spelled: Mapping[str, str]) -> C:
    """The `Config` that a run recorded; a parameter added since takes its default, one removed since is an error."""
    return resolve(cls, {"scale": "paper", **spelled})


def to_yaml(config: Config) -> str:
    """Every parameter, resolved, as a file that `reprod run --config FILE` reads."""
    import yaml

    typed = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in typed.items()}
    return yaml.safe_dump({"experiment": config.experiment, **plain}, sort_keys=False, default_flow_style=None)


def from_yaml(path: Path, experiment: str) -> dict[str, str]:
    """The parameters in a file, as text: names and values, a list where there are several. Raises `BadInput`."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput(f"--config {path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise BadInput(f"--config {path}: expected one `name: value` on each line")
    meant = found.pop("experiment", experiment)
    if meant != experiment:
        raise BadInput(f"--config {path}: those are parameters of {meant}, not of {experiment}")
    if nested := [name for name, value in found.items() if isinstance(value, dict)]:
        raise BadInput(f"--config {path}: {nested[0]} holds names of its own; expected a value or a list")
    return {name: spell(tuple(value) if isinstance(value, list) else value) for name, value in found.items()}


def scale_known(scale: str) -> None:
    """Raise `BadInput` for a scale that there is not."""
    if scale not in SCALES:
        raise BadInput(f"--scale {scale}: expected one of {', '.join(SCALES)}{nearest(scale, SCALES)}")


def spell(value: Any) -> str:
    """`None` -> none, `True` -> true, `1e-3` -> 0.001, `(0, 1)` -> 0,1. No spaces, quotes or brackets: MLflow logs
    project parameters shell-quoted, so that anything else would be stored in two spellings."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(spell, value)) or "none"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


@cache
def _types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def kind_of(cls: type[Config], name: str) -> Any:
    """The declared type of a parameter: `float | None`, `tuple[int, ...]`."""
    return _types(typing.cast(Any, cls))[name]


def _parse(cls: type[Config], name: str, text: Any) -> Any:
    kind = kind_of(cls, name)
    text = str(text).strip()
    optional = isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)
    if optional:
        if text.lower() in ("none", ""):
            return None
        (kind,) = (t for t in typing.get_args(kind) if t is not type(None))
    try:
        if typing.get_origin(kind) is tuple:
            element = typing.get_args(kind)[0]
            if text.lower() in ("none", ""):
                return ()
            return tuple(v for item in text.split(",") for v in _elements(item.strip(), element))
        return _scalar(text, kind)
    except ValueError:
        several = "," in text and all(_reads(item, kind) for item in text.split(","))
        hint = f"; `reprod sweep {cls.experiment} -P {name}={text}` runs one after the other" if several else ""
        raise BadInput(f"{name}={text}: expected {_describe(kind)}{' or none' if optional else ''}{hint}") from None


def _reads(item: str, kind: Any) -> bool:
    try:
        _scalar(item.strip(), kind)
    except (ValueError, TypeError):
        return False
    return True


def _elements(item: str, kind: type) -> Iterator[Any]:
    """One item of a list; `0-4` is a range of integers."""
    first, dash, last = item.partition("-")
    if kind is int and dash and first.isdigit() and last.isdigit():
        if int(last) < int(first):
            raise ValueError(item)
        yield from range(int(first), int(last) + 1)
    else:
        yield _scalar(item, kind)


def _scalar(text: str, kind: type) -> Any:
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]
    if kind is int:
        return int(text) if not any(c in text for c in ".eE") else _whole(float(text))
    value = kind(text)
    if kind is float and value != value:
        raise ValueError(text)
    return value


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(value)
    return int(value)


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        plural = {int: "integers", float: "numbers", str: "words"}[typing.get_args(kind)[0]]
        return f"{plural} separated by commas"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a word"}.get(kind, str(kind))


_BOUNDS = (
    ("above", operator.gt, "greater than"),
    ("at_least", operator.ge, "at least"),
    ("below", operator.lt, "less than"),
    ("at_most", operator.le, "at most"),
)


def _check_range(field: dataclasses.Field, value: Any) -> None:
    rules = field.metadata
    for element in value if isinstance(value, tuple) else (value,):
        if element is None:
            continue
        choices = rules.get("choices")
        if choices is not None and element not in choices:
            allowed = ", ".join(map(spell, choices))
            raise BadInput(
                f"{field.name}={spell(value)}: {spell(element)} is not one of {allowed}"
                f"{nearest(spell(element), map(str, choices))}"
            )
        for bound, holds, words in _BOUNDS:
            limit = rules.get(bound)
            if limit is not None and not holds(element, limit):
                raise BadInput(f"{field.name}={spell(value)}: must be {words} {spell(limit)}")


def check_device(device: str) -> None:
    if device in ("auto", "cpu"):
        return
    if device.partition(":")[0] != "cuda":
        raise BadInput(f"device={device}: expected auto, cpu, cuda or cuda:N")
    number = device.partition(":")[2] or "0"
    if not number.isdecimal():
        raise BadInput(f"device={device}: expected auto, cpu, cuda or cuda:N")
    import torch

    if int(number) >= torch.cuda.device_count():
        raise BadInput(f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices; use device=cpu")


def parameter_table(cls: type[Config]) -> list[dict[str, str]]:
    """One row per parameter: name, MLproject type, default, the defaults of the other scales, range and help."""
    return [_row(cls, field) for field in dataclasses.fields(cls)]


def _row(cls: type[Config], field: dataclasses.Field) -> dict[str, str]:
    bounds = {"above": ">", "at_least": ">=", "below": "<", "at_most": "<="}
    limits = [f"{sign} {spell(field.metadata[key])}" for key, sign in bounds.items() if field.metadata[key] is not None]
    choices = field.metadata["choices"]
    kinds = [kind for kind in typing.get_args(kind_of(cls, field.name)) if kind is not type(None)]
    kind = kind_of(cls, field.name) if typing.get_origin(kind_of(cls, field.name)) is tuple or not kinds else kinds[0]
    scaled = [f"{s}={spell(cls.scales[s][field.name])}" for s in SCALES if field.name in cls.scales.get(s, {})]
    return {
        "name": field.name,
        "type": {int: "int", float: "float"}.get(kind, "string"),
        "default": spell(field.default),
        "scales": " ".join(scaled),
        "allowed": "|".join(map(spell, choices)) if choices else ", ".join(limits),
        "help": field.metadata["help"],
    }


def scaled_parameters(cls: type[Config]) -> set[str]:
    """Parameters whose default depends on the scale. MLproject cannot give those a default of its own: MLflow would
    log and pass it as if the user had typed it, and the scale's value could never apply."""
    return {name for settings in cls.scales.values() for name in settings}
