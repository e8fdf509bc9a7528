"""The dashboards are what their tables say, in Grafana's model, and ask for metrics that exist."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.build import DASHBOARDS, FOLDER, files
from deploy.grafana.grafana import COLUMNS, DATASOURCE, dashboard
from tests.deploy.promql import (
    OF_PROMETHEUS,
    SUFFIXES,
    VLLM_LABELS,
    dashboard_queries,
    our_series,
    rules,
    selectors,
    vllm_names,
)

PROVISIONING = FOLDER.parent / "provisioning"
SERIES = {**our_series(), **OF_PROMETHEUS}
QUERIES = [
    *dashboard_queries("1m"),
    *((f"alert {rule['alert']}", str(rule["expr"])) for rule in rules()),
]
PAGES = [dashboard(each) for each in DASHBOARDS]


def panels(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Those with a picture."""
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def test_files_are_up_to_date() -> None:
    """`make dashboards` would change nothing, and leaves nothing behind that it does not make."""
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == files()


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name for name, _ in QUERIES])
def test_every_query_names_metrics_that_exist(name: str, query: str) -> None:
    """It is PromQL, its metrics are the gateway's, vLLM's or Prometheus' own, and have the labels that it asks for."""
    named = list(selectors(query))
    assert named
    for metric, labels in named:
        if not metric.startswith("vllm:"):
            assert metric in SERIES
            assert labels <= SERIES[metric]
            continue
        assert labels <= VLLM_LABELS | {"le"}
        if (known := vllm_names()) is not None:
            endings = ("", "_total", *SUFFIXES["histogram"])
            assert any(metric.removesuffix(ending) in known for ending in endings)


@pytest.mark.parametrize(
    "query", ["rate(", "sum by (nothing) (prfaas_ready)", "prfaas_no_such_metric", 'prfaas_ready{nothing="1"}']
)
def test_wrong_queries_are_found(query: str) -> None:
    """No PromQL, a metric or a label that is not there: the test above sees each."""
    with pytest.raises((AssertionError, ValueError)):
        test_every_query_names_metrics_that_exist("", query)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page["uid"])
def test_panels_are_laid_out_on_the_grid(page: dict[str, Any]) -> None:
    """Every panel lies within 24 columns, none on another, and each has an id of its own."""
    places = [panel["gridPos"] for panel in page["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page["uid"])
def test_panels_say_what_they_are_for(page: dict[str, Any]) -> None:
    """A title, a sentence, the provisioned data source, and a letter of its own for each query."""
    for panel in panels(page):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == DATASOURCE
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert all(target["datasource"] == DATASOURCE and target["expr"] for target in panel["targets"])
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])


def test_pages_have_names_of_their_own() -> None:
    """Grafana knows a page by its uid, of at most 40 characters."""
    uids = [page["uid"] for page in PAGES]
    assert len(set(uids)) == len(uids) == 5
    assert all(len(uid) <= 40 for uid in uids)


def test_provisioning_points_at_what_is_there() -> None:
    """The data source has the uid that panels ask for, and its interval is how often Prometheus scrapes."""
    source = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    scraped = yaml.safe_load((Path(FOLDER).parents[1] / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_files_are_plain_json() -> None:
    """No figure in them that JSON lacks."""
    for text in files().values():
        assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))["uid"]
