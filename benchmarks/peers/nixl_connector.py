"""vLLM's own connector over NIXL, with times. vLLM treats it by its name, so the name stays."""

from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlConnector as _NixlConnector

from benchmarks.step_times import Timed


class NixlConnector(Timed, _NixlConnector):  # type: ignore[misc]  # Any to mypy
    """The peer."""
