"""What processes are told at their start of logs and traces. Frozen, and plain enough to cross to a child process."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LogSettings:
    """How a process writes its log.

    Attributes:
        style: ``json``, ``text``, or ``auto``: text where a person reads along, JSON else.
        level: of our own lines; those of libraries are never finer than ``info``.
        engine, site: whose process it is, empty for the gateway's engine.
    """

    style: str = "auto"
    level: str = "info"
    engine: str = ""
    site: str = ""


@dataclass(frozen=True)
class TraceSettings:
    """Where a process sends its spans; None in its place is a process that makes none.

    Attributes:
        service: the resource's ``service.name``.
        endpoint: URL that takes OTLP over HTTP; None leaves it to the environment (``OTEL_EXPORTER_OTLP_*``).
        sample_ratio: of the traces that begin here; None leaves it to the environment (``OTEL_TRACES_SAMPLER``).
        resource: further attributes of the process.
    """

    service: str
    endpoint: str | None = None
    sample_ratio: float | None = None
    resource: dict[str, str] = field(default_factory=dict)
