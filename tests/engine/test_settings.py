"""What an operator can set on the connector about certificates."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from vllm.config import VllmConfig

from prfaas.engine.settings import Settings
from prfaas.errors import ConfigError
from prfaas.observe.settings import LogSettings, TraceSettings
from prfaas.transport.settings import RateLimit, TlsSettings

TLS = {"ca": "ca.crt", "cert": "edge.crt", "key": "edge.key", "names": {"cloud:7102": "cloud.site.prfaas"}}


def settings_of(**extra: Any) -> Settings:
    transfer = SimpleNamespace(engine_id="edge-0", kv_connector_extra_config=extra, kv_load_failure_policy="recompute")
    parallel = SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1, decode_context_parallel_size=1)
    vllm = SimpleNamespace(kv_transfer_config=transfer, parallel_config=parallel, speculative_config=None)
    return Settings.from_vllm(cast(VllmConfig, vllm))


def test_rate_limits_are_read_in_bytes() -> None:
    """Without any nothing is limited; 0 is no limit for whoever is named."""
    limits = settings_of(rate_limits=[{"peers": ["edge-0", "edge-1"], "gbps": 2}, {"peers": ["far-0"], "gbps": 0}])
    assert limits.rate_limits == (RateLimit(("edge-0", "edge-1"), 250e6), RateLimit(("far-0",), 0.0))
    assert settings_of().rate_limits == ()


@pytest.mark.parametrize("limit", [{"peers": ["a"]}, {"peers": "a", "gbps": 1}, {"peers": [], "gbps": -1}, 1])
def test_wrong_rate_limits_stop_the_start(limit: Any) -> None:
    """The message shows the entry and what one looks like."""
    with pytest.raises(ConfigError, match=r"rate_limits has .*; an entry has 'peers'"):
        settings_of(rate_limits=[limit])


def test_adapters_are_names_and_paths() -> None:
    assert settings_of(adapters={"fr": "/adapters/fr"}).adapters == {"fr": "/adapters/fr"}
    assert settings_of().adapters == {}
    for wrong in ("fr", ["fr"], {"fr": {"path": "/adapters/fr"}}):
        with pytest.raises(ConfigError, match=r"adapters is .*; it must give each its path"):
            settings_of(adapters=wrong)


def test_certificates_are_read_as_the_mover_wants_them() -> None:
    """Lists become tuples and what is left out is empty."""
    tls = settings_of(tls={**TLS, "decode_names": ["edge.site.prfaas"]}).tls
    assert tls == TlsSettings("ca.crt", "edge.crt", "edge.key", TLS["names"], ("edge.site.prfaas",))  # type: ignore[arg-type]


def test_no_certificates_are_plain_text() -> None:
    """The launcher says so explicitly, a hand-written configuration by leaving them out."""
    assert settings_of(tls=None).tls is None
    assert settings_of().tls is None


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ({**TLS, "crt": "x"}, r"tls\.crt is not one of ca, cert, key, names"),
        ({"ca": "ca.crt"}, r"kv_connector_extra_config\.tls: .*cert"),
        ({**TLS, "key": 7}, r"kv_connector_extra_config\.tls: .*key"),
        ("on", r"kv_connector_extra_config\.tls"),
    ],
)
def test_wrong_certificates_settings_stop_the_start(tls: Any, message: str) -> None:
    """An unknown, missing or mistyped field is named; plain text is never what a mistake leads to."""
    with pytest.raises(ConfigError, match=message):
        settings_of(tls=tls)


def test_logs_and_traces_are_read_for_connector_and_mover() -> None:
    """As the launcher gives them; without traces none are made."""
    logs = {"style": "json", "level": "debug", "engine": "edge-0", "site": "edge"}
    traces = {"service": "prfaas-mover", "endpoint": "http://collector:4318/v1/traces", "resource": {"a": "b"}}
    settings = settings_of(logs=logs, traces=traces)
    assert settings.logs == LogSettings("json", "debug", "edge-0", "edge")
    assert settings.traces == TraceSettings("prfaas-mover", "http://collector:4318/v1/traces", None, {"a": "b"})
    assert (settings_of().logs, settings_of(traces=None).traces) == (LogSettings(), None)


def test_wrong_settings_of_traces_stop_the_start() -> None:
    """By the name of what is wrong."""
    with pytest.raises(ConfigError, match=r"traces\.end_point is not one of service, endpoint"):
        settings_of(traces={"service": "a", "end_point": "b"})
