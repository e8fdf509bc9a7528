"""What engines cannot do yet: as vLLM would read its arguments."""

import pytest

from prfaas.config import EngineConfig
from prfaas.doctor.support import judge_support
from tests.doctor.stage import site_tree


def engine(gpus: int | None = None) -> EngineConfig:
    return EngineConfig.model_validate({**site_tree()["engines"]["edge-0"], "gpus": gpus})


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), ""),
        (("--tensor-parallel-size", "1", "-pp", "1"), ""),
        (("--max-num-seqs", "2"), ""),
        (("--tensor-parallel-size", "2"), "--tensor-parallel-size 2"),
        (("--tensor_parallel_size=4",), "--tensor-parallel-size 4"),
        (("-tp", "8"), "--tensor-parallel-size 8"),
        (("-pp=2",), "--pipeline-parallel-size 2"),
        (("-tp", "2", "-tp", "1"), ""),
        (("--seed", "2", "-pp"), ""),
    ],
)
def test_more_than_one_worker_is_found(arguments: tuple[str, ...], what: str) -> None:
    """In every form that vLLM takes; the last one counts."""
    found = list(judge_support("edge-0", engine(), False, arguments))
    assert [(each.code, each.where) for each in found] == [("engines.unsupported", "engines.edge-0")] * bool(what)
    assert all(each.what.startswith(what) for each in found)


@pytest.mark.parametrize(
    ("gpus", "is_gpu_build", "what"),
    [
        (None, False, ""),
        (0, False, ""),
        (2, False, "gpus: 2"),
        (None, True, "vLLM's build for GPUs"),
        (0, True, "vLLM's build for GPUs"),  # it does not run without
    ],
)
def test_gpus_are_found(gpus: int | None, is_gpu_build: bool, what: str) -> None:
    """As configured, or as installed; one finding, whatever else is asked."""
    found = list(judge_support("edge-0", engine(gpus), is_gpu_build, ("-tp", "2") if what else ()))
    assert [each.what.startswith(what) for each in found] == [True] * bool(what)
