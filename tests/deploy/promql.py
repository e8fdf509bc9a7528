"""What a query names, and which names there are."""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import promql_parser
import yaml

from deploy.grafana.build import DASHBOARDS
from deploy.grafana.panel import WINDOW
from prfaas.observe.metrics import Metrics

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
OF_PROMETHEUS = {"up": frozenset({"job", "instance", "engine", "site"}), "ALERTS": frozenset({"alertstate"})}
TARGET_LABELS = frozenset({"job", "instance", "le"})
"""Every series has the first two from being scraped, buckets the last."""
VLLM_LABELS = TARGET_LABELS | {"engine", "site", "model_name"}
"""``engine`` and ``site`` are those of deploy/prometheus/engines.yaml."""


def dashboard_queries(window: str) -> Iterator[tuple[str, str]]:
    """Name and expression of each query, with so long a window for rates."""
    for dashboard in DASHBOARDS:
        for row in dashboard.rows:
            for panel in row.panels:
                for at, query in enumerate(panel.queries):
                    name = f"{dashboard.uid}: {row.title}: {panel.title} {at}"
                    yield name, query.expr.replace(WINDOW, window)


def rules() -> list[dict[str, object]]:
    """All alert rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def selectors(expression: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each metric that the query names, with the labels that it is matched or summed up by. Raises ValueError."""
    yield from _selectors(promql_parser.parse(expression), frozenset())


def _selectors(node: object, by: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    match node:
        case promql_parser.VectorSelector():
            assert node.name is not None
            yield node.name, by | {each.name for each in node.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from _selectors(node.vector_selector, by)
        case promql_parser.AggregateExpr():
            yield from _selectors(node.expr, by | frozenset(node.modifier.labels if node.modifier else ()))
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs, by)
            yield from _selectors(node.rhs, by)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument, by)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from _selectors(node.expr, by)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            pass
        case _:
            raise ValueError(f"a part of the query that this walk does not know: {type(node).__name__}")


def our_series() -> dict[str, frozenset[str]]:
    """Every name that the gateway's samples bear, with the labels that they can have."""
    return {
        each.name + suffix: frozenset(each.labels) | TARGET_LABELS
        for each in Metrics().definitions
        for suffix in SUFFIXES[each.kind]
    }


def vllm_names() -> set[str] | None:
    """The names that the installed vLLM gives its metrics, without suffixes; None when it is not installed. Read, not
    imported: that would take ten seconds."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    sources = Path(spec.origin).parent.glob("v1/metrics/*.py")
    return {name for each in sources for name in re.findall(r'name="(vllm:\w+)"', each.read_text())}
