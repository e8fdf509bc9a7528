"""What commands that start engines need."""

import importlib.util

from prfaas.errors import EngineUnavailable


def require_vllm() -> None:
    """Raises EngineUnavailable where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineUnavailable("vLLM is not installed here: run `make setup` in a checkout of prfaas")
