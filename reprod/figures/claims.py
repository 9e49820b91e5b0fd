"""What a paper claims, and the few rules by which our runs decide it.

    yield AtLeast(
        "drop at tol 0.1", statement="accuracy falls by more than 0.25 under a finer solver", source="figure 4 d",
        published="about 0.3", basis=read_off("0.05"), samples=drops, bound=0.25, paper_n=5,
    )

A claim gives samples, one for each independent seed, trial or network. Its kind gives value, 95 % interval and verdict:
*reproduced* only where the whole interval lies inside the acceptance region, *not reproduced* only where the whole
interval lies outside, else *undecided*, with the number of further seeds that would decide at the spread at hand. One
sample, none, or a NaN decides nothing. Two-sided 95 % intervals mean that a claim which is wrong by the least amount
that matters is called reproduced at most 2.5 % of the time (tests/figures/test_claims.py simulates it, kind by kind).

Every kind can be shown to say no and yes: `refuted_by` and `confirmed_by` change the gathered runs so that the paper
is wrong, or right (`reprod.figures.alter` helps); where a claim gives neither, the kind shifts the samples. A contract
test demands both verdicts of every claim of every figure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reprod.errors import BadInput
from reprod.figures.estimates import LEVEL, Estimate, Samples, mean, prediction
from reprod.figures.estimates import bootstrap as bootstrap
from reprod.figures.estimates import interval as interval
from reprod.figures.estimates import slope as slope

if TYPE_CHECKING:
    from reprod.figures.figure import Runs

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
NOT_COMPARABLE = "not comparable at this scale"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_COMPARABLE)

MOST_SEEDS = 1000  # more than that is "none that one could run"


# -- where a published number comes from -----------------------------------------------------------------------------

PRINTED = "printed"


def read_off(error: str) -> str:
    """The number was read off a figure, with this reading error."""
    return f"read off the figure, to {error}"


def our_limit(reason: str) -> str:
    """The paper gives no number: this acceptance limit is ours, for this reason."""
    return f"our limit: {reason}"


# -- the verdict -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """A claim beside what our runs give: one row of `reprod claims`, of the report, of the docs."""

    name: str
    statement: str
    source: str
    published: str
    basis: str
    ours: str
    verdict: str
    value: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    n: int = 0
    reason: str = ""
    further_seeds: int | None = None
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What all kinds share.

    `samples` are one per independent seed, trial or network, or an `Estimate` made of them. `paper_n` is how many of
    them the paper has. `unsuccessful` counts seeds that ended without a result or below the scale's criterion of
    success (`criterion` says it): more than `allowed` of them and the claim fails. `scales` are those at which the
    claim can be decided, `elsewhere` says why not at the others. `fmt`, `factor` and `unit` print ours: `factor=100,
    unit=" %"`.
    """

    name: str
    statement: str
    source: str
    published: str
    basis: str
    paper_n: int = 5
    unsuccessful: int = 0
    allowed: int = 0
    criterion: str = "a result"
    scales: tuple[str, ...] = ("paper", "medium", "small")
    elsewhere: str = ""
    fmt: str = ".3g"
    factor: float = 1.0
    unit: str = ""
    remark: str = ""
    run_ids: tuple[str, ...] = ()
    refuted_by: Callable[[Runs], Runs] | None = None
    confirmed_by: Callable[[Runs], Runs] | None = None

    def __post_init__(self) -> None:
        for field in ("name", "statement", "source", "basis"):
            if not getattr(self, field):
                raise ValueError(f"the claim {self.name!r} has no {field}")
        if (self.refuted_by is None) != (self.confirmed_by is None):
            raise ValueError(f"the claim {self.name!r} can be refuted or confirmed only: it needs both")

    # what each kind says

    def estimate(self) -> Estimate:
        raise NotImplementedError

    def decide(self, found: Estimate) -> tuple[str, str]:
        """(verdict, reason) for an estimate that is known."""
        raise NotImplementedError

    def further(self, found: Estimate) -> int | None:
        """How many further seeds would decide, at the spread at hand; None where none that one could run would."""
        return None

    def refuted(self) -> Claim:
        """The same claim on samples for which the paper is wrong, as many as the paper has."""
        raise NotImplementedError

    def confirmed(self) -> Claim:
        raise NotImplementedError

    # what they share

    def judge(self, scale: str) -> Finding:
        """The one verdict function: what these samples say of the claim, and what the scale can show at all."""
        found = self.estimate()
        verdict, reason, further = self._verdict(found)
        if scale == "smoke":
            verdict, reason, further = NOT_COMPARABLE, "scale smoke only proves that the code works", None
        elif scale not in (*self.scales, "theory"):
            verdict, reason, further = NOT_COMPARABLE, self.elsewhere or f"needs scale {self.scales[0]}", None
        return Finding(
            name=self.name, statement=self.statement, source=self.source, published=self.published, basis=self.basis,
            ours=self.words(found), verdict=verdict, value=found.value, interval=(found.low, found.high), n=found.n,
            reason="; ".join(filter(None, [reason, self.remark])), further_seeds=further, run_ids=self.run_ids,
        )  # fmt: skip

    def _verdict(self, found: Estimate) -> tuple[str, str, int | None]:
        if self.unsuccessful > self.allowed:
            total = found.n + self.unsuccessful
            return NOT_REPRODUCED, f"{self.unsuccessful} of {total} seeds without {self.criterion}", None
        if not found.known:
            if found.n < 2:
                return UNDECIDED, f"{found.n or 'no'} sample{'s' if found.n != 1 else ''}: at least two decide", None
            return UNDECIDED, "not every sample is a finite number", None
        verdict, reason = self.decide(found)
        if verdict != UNDECIDED:
            return verdict, reason, None
        more = self.further(found)
        seeds = "further seed would" if more == 1 else "further seeds would"
        ask = f"{more} {seeds} decide" if more else "no number of seeds that one could run would decide"
        return verdict, "; ".join(filter(None, [reason, ask])), more

    def words(self, found: Estimate) -> str:
        if not math.isfinite(found.value):
            return "no number"

        def number(x: float) -> str:
            return format(self.factor * x, self.fmt)

        if not (math.isfinite(found.low) and math.isfinite(found.high)):
            return f"{number(found.value)}{self.unit}"
        return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]{self.unit}"


@dataclass(frozen=True, kw_only=True)
class _Region(Claim):
    """A claim that a mean lies in a region, `low` to `high` (either may be infinite)."""

    samples: Samples | Estimate
    each: bool = False  # the paper says "always": every sample has to lie there, too

    def region(self) -> tuple[float, float]:
        raise NotImplementedError

    def estimate(self) -> Estimate:
        return self.samples if isinstance(self.samples, Estimate) else mean(self.samples)

    def decide(self, found: Estimate) -> tuple[str, str]:
        low, high = self.region()
        if self.each and not isinstance(self.samples, Estimate):
            outside = sum(not low <= s <= high for s in self.samples)
            if outside:
                return NOT_REPRODUCED, f"{outside} of {found.n} samples lie outside, the paper says always"
        if low <= found.low and found.high <= high:
            return REPRODUCED, ""
        if found.high < low or found.low > high:
            return NOT_REPRODUCED, ""
        return UNDECIDED, "the interval holds a limit"

    def further(self, found: Estimate) -> int | None:
        low, high = self.region()
        distance = min(abs(found.value - limit) for limit in (low, high) if math.isfinite(limit))
        inside = low <= found.value <= high
        if inside:  # both limits have to be cleared
            distance = min(found.value - low, high - found.value)
        return _further(found, distance)

    def _with(self, value: float) -> Claim:
        """The same with `paper_n` samples around `value`, in the spread that is at hand (or less, near a limit: the
        question is whether the claim can decide, not whether our runs are many enough)."""
        n = max(self.paper_n, 3)
        low, high = self.region()
        room = min((abs(value - limit) for limit in (low, high) if math.isfinite(limit)), default=1.0)
        wiggle = np.array([-1.0, 1.0] * (n // 2) + [0.0] * (n % 2))
        ours = np.std(self.samples) if not isinstance(self.samples, Estimate) and len(self.samples) > 1 else 0.0
        spread = min(float(ours), room / 8) if math.isfinite(ours) else 0.0
        changed = value + spread * wiggle
        if isinstance(self.samples, Estimate):
            half = room / 4
            new: Any = Estimate(value, value - half, value + half, n, self.samples.how)
        else:
            new = changed
        return dataclasses.replace(self, samples=new, unsuccessful=0)


def _further(found: Estimate, distance: float) -> int | None:
    """Samples by which the interval's half width falls below `distance`: it falls as t(n - 1) sqrt(1/n + 1/m), m the
    published samples that it is a prediction for."""
    from scipy import stats

    half = (found.high - found.low) / 2
    if not distance > 0 or not half > 0 or not math.isfinite(distance):
        return None
    n = np.arange(found.n, found.n + MOST_SEEDS)
    widths = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(1 / n + 1 / found.against)
    enough = np.flatnonzero(half * widths / widths[0] < distance)
    return int(enough[0]) if len(enough) else None


@dataclass(frozen=True, kw_only=True)
class Equals(_Region):
    """The paper gives a number. Reproduced where the whole interval lies in `target` +- `tolerance`, for a stated
    `why`. A number that was published without its spread (`spread=False`) is compared with a prediction interval."""

    target: float
    tolerance: float
    why: str
    spread: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.tolerance > 0 and self.why):
            raise ValueError(f"the claim {self.name!r} needs a positive tolerance and a reason for it")

    def region(self) -> tuple[float, float]:
        return self.target - self.tolerance, self.target + self.tolerance

    def estimate(self) -> Estimate:
        if not self.spread and not isinstance(self.samples, Estimate):
            return prediction(self.samples, self.paper_n)
        return super().estimate()

    def refuted(self) -> Claim:
        return self._with(self.target + 3 * self.tolerance)

    def confirmed(self) -> Claim:
        return self._with(self.target)


@dataclass(frozen=True, kw_only=True)
class AtLeast(_Region):
    """The paper gives a lower bound: of a value, a difference, a drop, a ratio."""

    bound: float
    refuted_at: float | None = None  # a value that makes the paper wrong; default: as far below as ours is above

    def region(self) -> tuple[float, float]:
        return self.bound, math.inf

    def _step(self) -> float:
        value = self.estimate().value
        away = abs(value - self.bound) if math.isfinite(value) else 0.0
        return away or abs(self.bound) or 1.0

    def refuted(self) -> Claim:
        return self._with(self.bound - self._step() if self.refuted_at is None else self.refuted_at)

    def confirmed(self) -> Claim:
        return self._with(self.bound + self._step())


@dataclass(frozen=True, kw_only=True)
class AtMost(AtLeast):
    """The paper gives an upper bound."""

    def region(self) -> tuple[float, float]:
        return -math.inf, self.bound

    def refuted(self) -> Claim:
        return self._with(self.bound + self._step() if self.refuted_at is None else self.refuted_at)

    def confirmed(self) -> Claim:
        return self._with(self.bound - self._step())


@dataclass(frozen=True, kw_only=True)
class Ordered(Claim):
    """Values rise (`rising`) or fall with a parameter: `samples[i]` are those of the i-th value of it, and seed j has
    `samples[i][j]` in each.

    Page's trend test (`scipy.stats.page_trend_test`, exact where that can be computed): its null hypothesis permutes
    the values within each seed. Reproduced at p < 0.025 on one side. Not reproduced where it is as sure of the opposite
    trend, or where the interval of the mean Kendall tau over seeds lies below `least`, the weakest trend that one
    would call one.
    """

    samples: Sequence[Samples] | np.ndarray
    rising: bool = True
    least: float = 0.5

    def taus(self) -> np.ndarray:
        """Kendall's tau of each seed, positive where it goes the way that the paper says."""
        from scipy import stats

        x = np.asarray(self.samples, dtype=float)
        sign = 1 if self.rising else -1
        return np.array([sign * float(stats.kendalltau(range(len(x)), column).statistic) for column in x.T])

    def estimate(self) -> Estimate:
        x = np.asarray(self.samples, dtype=float)
        if x.ndim != 2 or x.shape[0] < 2 or not np.isfinite(x).all():
            return Estimate(math.nan, math.nan, math.nan, x.shape[-1] if x.ndim == 2 else 0, "Kendall's tau")
        taus = np.nan_to_num(self.taus())  # no order at all where every value is the same
        return dataclasses.replace(mean(taus), how="mean Kendall tau over seeds, Student's t")

    def p_value(self, rising: bool) -> float:
        """One-sided, of the trend that rises (or falls)."""
        from scipy import stats

        x = np.asarray(self.samples, dtype=float)
        if np.ptp(x, axis=0).max() == 0:
            return 1.0
        data = x.T if rising else -x.T
        if x.shape[0] == 2:  # Page's test needs three
            wins, ties = int((data[:, 1] > data[:, 0]).sum()), int((data[:, 1] == data[:, 0]).sum())
            return float(stats.binomtest(wins, len(data) - ties, 0.5, alternative="greater").pvalue) if wins else 1.0
        return float(stats.page_trend_test(data).pvalue)

    def decide(self, found: Estimate) -> tuple[str, str]:
        alpha = (1 - LEVEL) / 2
        if (p := self.p_value(self.rising)) < alpha:
            return REPRODUCED, f"trend test p = {p:.2g}"
        if (q := self.p_value(not self.rising)) < alpha:
            return NOT_REPRODUCED, f"the opposite trend, p = {q:.2g}"
        if found.high < self.least:
            return NOT_REPRODUCED, f"no trend: mean tau below {self.least:g} (trend test p = {p:.2g})"
        return UNDECIDED, f"trend test p = {p:.2g}"

    def further(self, found: Estimate) -> int | None:
        x = np.asarray(self.samples, dtype=float)
        for times in (2, 3, 4, 6, 9, 14, 20):  # the same seeds again: what as many more of their kind would show
            again = dataclasses.replace(self, samples=np.tile(x, (1, times)).tolist())
            if again.decide(again.estimate())[0] != UNDECIDED:
                return x.shape[1] * (times - 1)
        return None

    def _rows(self, sign: int) -> Claim:
        levels = max(len(self.samples), 2)
        base = np.arange(levels, dtype=float) * (sign if self.rising else -sign)
        n = max(self.paper_n, 6 if levels == 2 else 3)
        rows = base[:, None] + 1e-3 * np.cos(np.arange(n))[None, :]
        return dataclasses.replace(self, samples=rows.tolist(), unsuccessful=0)

    def refuted(self) -> Claim:
        return self._rows(-1)

    def confirmed(self) -> Claim:
        return self._rows(1)


@dataclass(frozen=True, kw_only=True)
class Share(Claim):
    """A share of cases: `count` of `total`, each independent. Accepted from `at_least` to `at_most`.

    The interval is Clopper and Pearson's (`scipy.stats.binomtest`). Wilson's is shorter, but near 0 and 1 it errs on
    one side more often than the 2.5 % that we promise.
    """

    count: int
    total: int
    at_least: float = 0.0
    at_most: float = 1.0

    def estimate(self) -> Estimate:
        from scipy import stats

        how = "share, Clopper and Pearson"
        if not self.total:
            return Estimate(math.nan, math.nan, math.nan, 0, how)
        found = stats.binomtest(self.count, self.total).proportion_ci(LEVEL, method="exact")
        return Estimate(self.count / self.total, float(found.low), float(found.high), self.total, how)

    def decide(self, found: Estimate) -> tuple[str, str]:
        if self.at_least <= found.low and found.high <= self.at_most:
            return REPRODUCED, ""
        if found.high < self.at_least or found.low > self.at_most:
            return NOT_REPRODUCED, ""
        return UNDECIDED, "the interval holds a limit"

    def further(self, found: Estimate) -> int | None:
        from scipy import stats

        n = np.arange(self.total + 1, self.total + MOST_SEEDS)
        k, tail = np.round(found.value * n), (1 - LEVEL) / 2
        low = np.where(k > 0, stats.beta.ppf(tail, np.maximum(k, 0.5), n - k + 1), 0.0)
        high = np.where(k < n, stats.beta.ppf(1 - tail, k + 1, np.maximum(n - k, 0.5)), 1.0)
        inside = (self.at_least <= low) & (high <= self.at_most)
        enough = np.flatnonzero(inside | (high < self.at_least) | (low > self.at_most))
        return int(enough[0]) + 1 if len(enough) else None

    def _of(self, share: float) -> Claim:
        total = max(self.paper_n, 2)
        while total < 10_000:  # the paper's number where that can decide at all, else the least that can
            changed = dataclasses.replace(self, count=round(share * total), total=total, unsuccessful=0)
            if changed.decide(changed.estimate())[0] != UNDECIDED:
                return changed
            total = math.ceil(1.3 * total)
        return dataclasses.replace(self, count=round(share * total), total=total)

    def refuted(self) -> Claim:
        return self._of(0.0 if self.at_least > 0 else 1.0)

    def confirmed(self) -> Claim:
        return self._of(1.0 if self.at_most >= 1 else 0.0 if self.at_least <= 0 else (self.at_least + self.at_most) / 2)


@dataclass(frozen=True, kw_only=True)
class Exact(Claim):
    """An integer, a closed form: something without chance in it. Equal to `target` within `rounding`, or not. Several
    values (`value` a sequence) have to be equal all."""

    value: float | Samples
    target: float | Samples
    rounding: float = 0.0

    def _values(self) -> np.ndarray:
        return np.atleast_1d(np.asarray(self.value, dtype=float))

    def _targets(self) -> np.ndarray:
        return np.broadcast_to(np.atleast_1d(np.asarray(self.target, dtype=float)), self._values().shape)

    def estimate(self) -> Estimate:
        values = self._values()
        if not len(values) or not np.isfinite(values).all():
            return Estimate(math.nan, math.nan, math.nan, 0, "exact")
        worst = values[int(np.argmax(np.abs(values - self._targets())))]
        return Estimate(float(worst), float(worst), float(worst), max(len(values), 2), "exact")

    def decide(self, found: Estimate) -> tuple[str, str]:
        gaps = np.abs(self._values() - self._targets())
        if (gaps <= self.rounding).all():
            return REPRODUCED, ""
        return NOT_REPRODUCED, f"{int((gaps > self.rounding).sum())} of {len(gaps)} differ, by up to {gaps.max():.3g}"

    def judge(self, scale: str) -> Finding:
        found = super().judge(scale)
        return dataclasses.replace(found, n=len(self._values()), interval=(math.nan, math.nan))

    def words(self, found: Estimate) -> str:
        shown = self._values()
        if not math.isfinite(found.value):
            return "no number"
        numbers = ", ".join(format(self.factor * v, self.fmt) for v in shown[:8])
        return f"{numbers}{', ...' if len(shown) > 8 else ''}{self.unit}"

    def refuted(self) -> Claim:
        return dataclasses.replace(self, value=(self._targets() + 1 + 3 * self.rounding).tolist(), unsuccessful=0)

    def confirmed(self) -> Claim:
        return dataclasses.replace(self, value=self._targets().tolist(), unsuccessful=0)


@dataclass(frozen=True, kw_only=True)
class All(Claim):
    """A sentence that says several things at once: reproduced where every part is, not reproduced where one is not. (An
    intersection-union test: it errs no more often than its parts.) Parts carry their own samples; the name, statement
    and source are those of the sentence."""

    parts: Sequence[Claim]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parts:
            raise ValueError(f"the claim {self.name!r} has no parts")

    def judge(self, scale: str) -> Finding:
        counted: dict[str, Any] = {}
        if self.unsuccessful:  # seeds without a result count in every part
            counted = {"unsuccessful": self.unsuccessful, "allowed": self.allowed, "criterion": self.criterion}
        found = [dataclasses.replace(part, **counted).judge(scale) for part in self.parts]
        verdicts = [f.verdict for f in found]
        verdict = next((v for v in (NOT_COMPARABLE, NOT_REPRODUCED, UNDECIDED) if v in verdicts), REPRODUCED)
        if scale not in (*self.scales, "theory") and verdict != NOT_COMPARABLE:
            verdict = NOT_COMPARABLE
        odd = [f for f in found if f.verdict == verdict] if verdict != REPRODUCED else []
        reason = "; ".join(f"{f.name}: {f.reason or f.ours}" for f in odd[:4])
        further = [f.further_seeds for f in found if f.verdict == UNDECIDED]
        known = [seeds for seeds in further if seeds is not None]
        return Finding(
            name=self.name, statement=self.statement, source=self.source, published=self.published, basis=self.basis,
            ours="; ".join(f"{f.name} {f.ours}" for f in found), verdict=verdict, n=min(f.n for f in found),
            reason=self.elsewhere if verdict == NOT_COMPARABLE and self.elsewhere else
            "; ".join(filter(None, [reason, self.remark])),
            further_seeds=max(known) if verdict == UNDECIDED and known and len(known) == len(further) else None,
            run_ids=self.run_ids,
        )  # fmt: skip

    def refuted(self) -> Claim:
        """One part wrong, the others right."""
        first, *rest = self.parts
        return dataclasses.replace(self, parts=[first.refuted(), *(part.confirmed() for part in rest)])

    def confirmed(self) -> Claim:
        return dataclasses.replace(self, parts=[part.confirmed() for part in self.parts])


def check_unique(claims: Sequence[Claim], figure: str) -> None:
    names = [claim.name for claim in claims]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"{figure} has two claims called {', '.join(sorted(twice))}")
