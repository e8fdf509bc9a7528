"""What ``benchmarks.selective`` has found: goodput by way and rate, confidence, and how well it was predicted."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table

MIN_SEEDS, MAX_SEEDS = 5, 31
"""Fewer say little; more have no place in the table below."""
STUDENT_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % quantiles for 1 to 30 degrees of freedom: of two-sided intervals of 95 %."""
ALL_LOCAL, ALL_REMOTE, SELECTIVE = "all_local", "all_remote", "selective"
WAYS = (ALL_LOCAL, ALL_REMOTE, SELECTIVE)


@dataclass(frozen=True, slots=True)
class Run:
    """One way at one rate with one seed's requests.

    Attributes:
        rate: offered, requests/s.
        measured, predicted: good answers a second of the arrivals' time.
        is_retried: the first try is not in it, because requests of it were lost.
    """

    way: str
    rate: float
    seed: int
    measured: float
    predicted: float
    is_retried: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and half the width of its 95 % confidence interval; None where a single value has none."""

    mean: float
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        mean = statistics.fmean(values)
        if len(values) < 2:
            return cls(mean, None)
        return cls(mean, STUDENT_T[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values)))

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.half is None else f"{self.mean:.3f} ± {self.half:.3f}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One way at one rate, over all seeds.

    Attributes:
        error: the prediction's mean over the measured one, less 1: above 0 it promised too much. None where nothing
            measured was good though something was predicted.
    """

    way: str
    rate: float
    measured: Interval
    predicted: float
    error: float | None


@dataclass
class Findings:
    """Runs as they come; what they say is asked for at the end, or when there are no more."""

    runs: list[Run] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """By rate, then by way."""
        found = []
        for rate in sorted({run.rate for run in self.runs}):
            for way in WAYS:
                runs = [run for run in self.runs if (run.way, run.rate) == (way, rate)]
                if runs:
                    found.append(_cell(way, rate, runs))
        return found

    def leads(self) -> list[tuple[str, float, Interval]]:
        """What selective has more than another way at the same rate, seed by seed: way, rate, good answers a second."""
        by = {(run.way, run.rate, run.seed): run.measured for run in self.runs}
        found = []
        for rate in sorted({run.rate for run in self.runs}):
            for way in (ALL_LOCAL, ALL_REMOTE):
                seeds = [s for w, r, s in by if (w, r) == (way, rate) and (SELECTIVE, rate, s) in by]
                more = [by[SELECTIVE, rate, seed] - by[way, rate, seed] for seed in seeds]
                if more:
                    found.append((way, rate, Interval.of(more)))
        return found

    def keys(self) -> dict[str, Any]:
        """``goodput_*`` is the best mean goodput of all rates, ``best_rate_*`` where it was, and ``predicted_*`` the
        best that was predicted of the same rates. ``max_prediction_error`` is over these three, ``max_cell_error`` over
        every way at every rate, overload included."""
        cells, found = self.cells(), dict[str, Any]()
        errors = []
        for way in WAYS:
            mine = [cell for cell in cells if cell.way == way]
            if mine:
                best = max(mine, key=lambda cell: cell.measured.mean)
                predicted = max(cell.predicted for cell in mine)
                found[f"goodput_{way}"] = round(best.measured.mean, 4)
                found[f"confidence_{way}"] = _rounded(best.measured.half)
                found[f"best_rate_{way}"] = best.rate
                found[f"predicted_{way}"] = round(predicted, 4)
                errors.append(_error(predicted, best.measured.mean))
        found["max_prediction_error"] = _worst(errors)
        found["max_cell_error"] = _worst([cell.error for cell in cells])
        found["retried_runs"] = sum(run.is_retried for run in self.runs)
        found["cells"] = [_shown(cell) for cell in cells]
        found["selective_more_than"] = [
            {"way": way, "rate": rate, "good_per_s": round(more.mean, 4), "confidence": _rounded(more.half)}
            for way, rate, more in self.leads()
        ]
        found["runs"] = [[r.way, r.rate, r.seed, round(r.measured, 4), round(r.predicted, 4)] for r in self.runs]
        return found | self.facts

    def table(self, title: str) -> Table:
        table = Table(title=title, box=box.SIMPLE, title_justify="left")
        for at, heading in enumerate(("way", "offered/s", "good/s", "predicted/s", "error")):
            table.add_column(heading, justify="right" if at else "left")
        for cell in self.cells():
            error = "none good" if cell.error is None else f"{cell.error:+.1%}"
            table.add_row(cell.way, f"{cell.rate:g}", str(cell.measured), f"{cell.predicted:.3f}", error)
        return table


def _cell(way: str, rate: float, runs: Sequence[Run]) -> Cell:
    measured = Interval.of([run.measured for run in runs])
    predicted = statistics.fmean(run.predicted for run in runs)
    return Cell(way, rate, measured, predicted, _error(predicted, measured.mean))


def _error(predicted: float, measured: float) -> float | None:
    """None where nothing bounds it."""
    if measured > 0:
        return predicted / measured - 1
    return None if predicted else 0.0


def _worst(errors: Sequence[float | None]) -> float | None:
    """The largest, whichever way it goes; None where one has no bound, or there is none."""
    found = [abs(each) for each in errors if each is not None]
    return round(max(found), 4) if found and len(found) == len(errors) else None


def _shown(cell: Cell) -> dict[str, Any]:
    return {
        "way": cell.way,
        "rate": cell.rate,
        "good_per_s": round(cell.measured.mean, 4),
        "confidence": _rounded(cell.measured.half),
        "predicted_per_s": round(cell.predicted, 4),
        "error": _rounded(cell.error),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
