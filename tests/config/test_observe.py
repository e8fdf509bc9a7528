from typing import Any

import pytest

from prfaas.config import parse_config
from prfaas.config.observe import ObserveConfig
from prfaas.errors import ConfigError
from tests.config.test_config import plain_tree


def observed(**observe: Any) -> ObserveConfig:
    return parse_config({**plain_tree(), "observe": observe}).observe


def test_traces_are_off_unless_there_is_their_section() -> None:
    """An empty one leaves everything to OpenTelemetry's own variables."""
    assert parse_config(plain_tree()).observe.traces is None
    traces = observed(traces={}).traces
    assert traces is not None
    assert traces.fields("gateway", site="edge") == {
        "service": "prfaas-gateway",
        "endpoint": None,
        "sample_ratio": None,
        "resource": {"prfaas.site": "edge"},
    }


@pytest.mark.parametrize(
    ("observe", "problem"),
    [
        ({"logs": "xml"}, r"observe\.logs: 'xml'"),
        ({"log_level": "trace"}, r"observe\.log_level: 'trace'"),
        ({"trace": {}}, r"observe\.trace: unknown key, did you mean 'traces'"),
        ({"traces": {"endpoint": "collector:4317"}}, r"traces\.endpoint.*write it as http://host:4318/v1/traces"),
        ({"traces": {"endpoint": "http://"}}, r"traces\.endpoint.*write it as http://host:4318/v1/traces"),
        ({"traces": {"endpoint": "http://host/v1/traces?key=a"}}, r"traces\.endpoint: a key does not belong here"),
        ({"traces": {"sample_ratio": 10}}, r"observe\.traces\.sample_ratio: 10"),
        ({"traces": {"service_name": "a b"}}, r"observe\.traces\.service_name: 'a b'"),
    ],
)
def test_what_is_wrong_is_named(observe: dict[str, Any], problem: str) -> None:
    """With its key, and for a collector with an example."""
    with pytest.raises(ConfigError, match=problem):
        observed(**observe)


def test_key_in_the_collectors_address_is_refused_unseen() -> None:
    """The way out is named, the key is not shown again."""
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS") as refusal:
        observed(traces={"endpoint": "http://me:planted@collector:4318/v1/traces"})
    assert "planted" not in str(refusal.value)
