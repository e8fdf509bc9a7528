"""vLLM's API server, which forks the engine's other processes, as vLLM does on GPUs; arguments as there.

On CPUs vLLM insists on processes that begin anew, two after the API server's own. Each imports for eight seconds what
the one before it has imported: of the 26 s that a tiny model takes to start, 16.
"""

import multiprocessing
import runpy
from multiprocessing.context import BaseContext

context_of = multiprocessing.get_context


def forking_context(method: str | None = None) -> BaseContext:
    """What ``multiprocessing.get_context`` returns, but for the method on which vLLM insists."""
    return context_of("fork" if method == "spawn" else method)


if __name__ == "__main__":
    multiprocessing.get_context = forking_context  # type: ignore[assignment]  # fewer overloads
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
