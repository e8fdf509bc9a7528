"""What can be seen of the fleet: logs and traces."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from prfaas.config.base import Section


def _checked_collector(value: str) -> str:
    url = urlsplit(value)
    if url.username or url.password or url.query:
        raise ValueError("a key does not belong here: give it in the variable OTEL_EXPORTER_OTLP_HEADERS")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("write it as http://host:4318/v1/traces")
    return value


Collector = Annotated[str, AfterValidator(_checked_collector), StringConstraints(max_length=2048)]


class TracesConfig(Section):
    """Where spans go. What is left out here is taken from OpenTelemetry's own variables (``OTEL_*``)."""

    endpoint: Annotated[
        Collector | None,
        Field(description="Takes OTLP over HTTP: http://host:4318/v1/traces. vLLM makes its spans only if it is here."),
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

    def service(self, part: str) -> str:
        """The name of one kind of process."""
        return f"{self.service_name}-{part}"

    def fields(self, part: str, **resource: str) -> dict[str, Any]:
        """What such a process is told: the fields of ``TraceSettings``."""
        attributes = {f"prfaas.{name}": value for name, value in resource.items()}
        return {
            "service": self.service(part),
            "endpoint": self.endpoint,
            "sample_ratio": self.sample_ratio,
            "resource": attributes,
        }


class ObserveConfig(Section):
    """Logs of the gateway, of engines' connectors and of movers; traces, which are off without their section."""

    logs: Annotated[
        Literal["auto", "json", "text"], Field(description="auto: text on a terminal, JSON anywhere else.")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Of our own lines; libraries say nothing finer than info."),
    ] = "info"
    traces: TracesConfig | None = None

    def log_fields(self, site: str, engine: str = "") -> dict[str, str]:
        """What a process is told of its log: the fields of ``LogSettings``."""
        return {"style": self.logs, "level": self.log_level, "engine": engine, "site": site}
