"""What a dashboard is made of, in the words of whoever writes one; ``grafana.py`` puts it into Grafana's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "timeseries", "state-timeline"]

WINDOW = "$__rate_interval"
"""Grafana's own: at least four scrapes, and never less than a step of the picture."""


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and the name of each line: text in which ``{{label}}`` stands for its value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        text: what it answers, and what to look at next; shown behind the "i".
        unit: Grafana's name of it.
        width: of 24.
        limits: colour from a value on, in rising order; the first colour is for what lies below.
        words: a word for a value, as ``{"1": "yes"}``.
        is_stacked: lines lie on each other, and their sum is the figure.
    """

    title: str
    queries: Sequence[Query]
    text: str
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    limits: tuple[tuple[str, float | None], ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    is_stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page; ``uid`` is its address and the name of its file."""

    uid: str
    title: str
    text: str
    rows: Sequence[Row]


def line(expr: str, legend: str = "") -> Query:
    """The expression as it is."""
    return Query(expr, legend)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """How fast a counter grows, each second, summed up but for the labels ``by``."""
    return f"sum{_by(by)} (rate({metric}{_where(where)}[{WINDOW}]))"


def gauge(metric: str, by: str = "", where: str = "") -> str:
    """A gauge, summed up but for the labels ``by``."""
    return f"sum{_by(by)} ({metric}{_where(where)})"


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    """What this share of the observations does not exceed."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels, where)})"


def mean(histogram: str, by: str = "", where: str = "") -> str:
    """Of the observations in the window."""
    return f"{rate(f'{histogram}_sum', by, where)} / {rate(f'{histogram}_count', by, where)}"


def quantiles(histogram: str, by: str = "", shares: Sequence[float] = (0.5, 0.95)) -> list[Query]:
    """A line for each share and each value of the label ``by``."""
    label = f"{{{{{by}}}}} " if by else ""
    return [Query(quantile(share, histogram, by), f"{label}p{share * 100:g}") for share in shares]


GOOD_BELOW = ("green", None)
"""The colour of what is as it should be, first of ``limits``."""
YES_NO = (("0", "no"), ("1", "yes"))
BAD_WHEN_SET = (GOOD_BELOW, ("red", 1.0))
GOOD_WHEN_SET = (("red", None), ("green", 1.0))


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
