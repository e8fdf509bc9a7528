"""The connector's settings, from ``kv_connector_extra_config`` of vLLM's ``--kv-transfer-config``."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from vllm.config import VllmConfig

from prfaas.errors import ConfigError
from prfaas.observe.settings import LogSettings, TraceSettings
from prfaas.transport.settings import RateLimit, TlsSettings

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Everything that an operator can set on one engine's connector.

    Attributes:
        engine_id: the engine's name, for logs and handshakes.
        listen: "host:port" where other sites' engines and the gateway reach this mover; empty for none.
        data_port: port of the cache bytes beside ``listen``; 0 for the one after it.
        peers: "host:port" of prefill engines to greet at start-up, so that a mismatch shows before traffic.
        also_dials: "host:port" that requests may name besides ``peers``; whatever else they name is not dialed.
        grpc_peers: those whose cache bytes come over gRPC, on the port of ``peers``, because no other passes.
        serves_tcp: whether other sites may fetch cache bytes over TCP; if not, ``data_port`` stays closed.
        tls: certificates and who may talk to whom; None for plain text on every connection.
        slot_kib: size of one staging slot, the most that one frame carries.
        send_mib, receive_mib: staging for caches on their way out and in.
        load_share: share of the engine's blocks that loads may hold while they wait.
        data_connections: TCP connections per peer for cache bytes.
        rate_limits: ``{"peers": [engine id, ...], "gbps": number}``: caches leave for these no faster, together; with 0
            as fast as they can, which a probe is allowed only on behalf of an engine that is named where others are
            limited.
        link_gbps: bandwidth of the widest link of this site, for the metrics' utilisation; 0 when unknown.
        adapters: folder of each LoRA adapter by name, as vLLM is given them; caches of others stay here.
        heartbeat_s, lease_s: how often peers show that they live, and how long silence is borne.
        mover_cpus: CPUs the mover may use; empty for all.
        logs: how the connector and the mover log.
        traces: where the mover's spans go; None makes none.
    """

    engine_id: str
    listen: str = ""
    data_port: int = 0
    peers: tuple[str, ...] = ()
    also_dials: tuple[str, ...] = ()
    grpc_peers: tuple[str, ...] = ()
    serves_tcp: bool = True
    tls: TlsSettings | None = None
    slot_kib: int = 256
    send_mib: int = 256
    receive_mib: int = 256
    load_share: float = 0.5
    data_connections: int = 2
    rate_limits: tuple[RateLimit, ...] = ()
    link_gbps: float = 0.0
    adapters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    heartbeat_s: float = 1.0
    lease_s: float = 10.0
    mover_cpus: tuple[int, ...] = ()
    logs: LogSettings = dataclasses.field(default_factory=LogSettings)
    traces: TraceSettings | None = None

    @classmethod
    def from_vllm(cls, vllm_config: VllmConfig) -> "Settings":
        """Read and check the settings.

        Raises:
            ConfigError: an unknown key, a value of the wrong type, or an engine that the connector cannot serve.
        """
        transfer = vllm_config.kv_transfer_config
        assert transfer is not None
        _refuse_unsupported(vllm_config)
        known = {field.name: field for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in transfer.kv_connector_extra_config.items():
            if key not in known or key == "engine_id":
                raise ConfigError(f"kv_connector_extra_config.{key} is not one of {', '.join(sorted(known))}")
            values[key] = tuple(value) if isinstance(value, list) else value
        for key, section in SECTIONS.items():
            if values.get(key) is not None:
                values[key] = _section(key, section, values[key])
        values["rate_limits"] = tuple(_rate_limit(each) for each in values.get("rate_limits", ()))
        settings = cls(engine_id=str(transfer.engine_id), **values)
        settings.check()
        return settings

    def check(self) -> None:
        """Raise ConfigError for values that cannot work."""
        for name in ("slot_kib", "send_mib", "receive_mib", "data_connections", "heartbeat_s", "lease_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ConfigError(f"kv_connector_extra_config.{name} is {value!r}; it must be a positive number")
        if not 0 < self.load_share <= 1:
            raise ConfigError(f"kv_connector_extra_config.load_share is {self.load_share!r}; it must be in (0, 1]")
        if not isinstance(self.adapters, dict) or not all(isinstance(path, str) for path in self.adapters.values()):
            raise ConfigError(f"kv_connector_extra_config.adapters is {self.adapters!r}; it must give each its path")
        if self.slot_kib % 4:
            raise ConfigError(f"kv_connector_extra_config.slot_kib is {self.slot_kib}; slots are whole 4 KiB pages")

    @property
    def bound_data_port(self) -> int:
        """The data port to bind: firewalls want to know it before the engine runs."""
        control_port = int(self.listen.rpartition(":")[2] or 0)
        return self.data_port or (control_port + 1 if control_port else 0)

    @property
    def slot_bytes(self) -> int:
        return self.slot_kib * 1024

    @property
    def send_slots(self) -> int:
        return max(1, self.send_mib * MIB // self.slot_bytes)

    @property
    def receive_slots(self) -> int:
        return max(1, self.receive_mib * MIB // self.slot_bytes)


def _rate_limit(value: Any) -> RateLimit:
    match value:
        case {"peers": [*peers], "gbps": int() | float() as gbps, **others} if gbps >= 0 and not others:
            return RateLimit(tuple(str(peer) for peer in peers), gbps * 125e6)
    raise ConfigError(
        f"kv_connector_extra_config.rate_limits has {value!r}; an entry has 'peers', a list of engine ids, and "
        "'gbps', a number, 0 for no limit"
    )


SECTIONS = {"tls": TlsSettings, "logs": LogSettings, "traces": TraceSettings}
"""Settings that have settings of their own."""


def _section(key: str, section: type[Any], value: Any) -> Any:
    known = [field.name for field in dataclasses.fields(section)]
    try:
        if unknown := sorted(set(value) - set(known)):
            raise ConfigError(f"kv_connector_extra_config.{key}.{unknown[0]} is not one of {', '.join(known)}")
        return msgspec.convert(value, section)
    except (TypeError, msgspec.ValidationError) as error:
        raise ConfigError(f"kv_connector_extra_config.{key}: {error}") from None


def _refuse_unsupported(vllm_config: VllmConfig) -> None:
    """Stop the start-up of engines whose cache would be handed over wrongly, or whose failed loads would be errors."""
    transfer = vllm_config.kv_transfer_config
    if transfer is not None and transfer.kv_load_failure_policy != "recompute":
        raise ConfigError(
            f"kv_load_failure_policy is {transfer.kv_load_failure_policy!r}; with the prfaas connector it must be "
            "'recompute', or a lost transfer would be a lost request"
        )
    parallel = vllm_config.parallel_config
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "decode_context_parallel_size"):
        if getattr(parallel, name) != 1:
            raise ConfigError(f"the prfaas connector hands over the cache of one worker; {name} must be 1")
    if vllm_config.speculative_config is not None:
        raise ConfigError("the prfaas connector does not hand over speculative decoding's state; switch it off")
