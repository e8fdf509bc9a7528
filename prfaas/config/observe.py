"""What can be seen of the fleet: logs and traces."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from prfaas.config.base import Section


def _checked_collector(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("write it as http://host:4318/v1/traces")
    if url.username or url.password:
        raise ValueError("a key does not belong here: give it in the variable OTEL_EXPORTER_OTLP_HEADERS")
    return value


class TracesConfig(Section):
    """Where spans go. What is left out here is taken from OpenTelemetry's own variables (``OTEL_*``)."""

    endpoint: Annotated[
        str | None,
        AfterValidator(lambda value: None if value is None else _checked_collector(value)),
        Field(max_length=2048, description="Takes OTLP over HTTP: http://host:4318/v1/traces. Engines need it given here."),
    ] = None
    sample_ratio: Annotated[
        float | None,
        Field(ge=0, le=1, description="Of requests that come without a trace; others are traced if they say so."),
    ] = None
    service_name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"),
        Field(description="What the services' names begin with: NAME-gateway, NAME-mover, NAME-engine."),
    ] = "prfaas"


class ObserveConfig(Section):
    """Logs of the gateway and of engines' connectors and movers, and traces, which are off without their section."""

    logs: Annotated[
        Literal["auto", "json", "text"], Field(description="auto: text on a terminal, JSON anywhere else.")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Of our own lines; libraries say nothing finer than info."),
    ] = "info"
    traces: TracesConfig | None = None
