"""What tells the contents of LoRA adapters apart."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.config.lora import LoRAConfig
from vllm.lora.request import LoRARequest

from prfaas.engine.adapters import UNKNOWN, Adapters


def make_adapter(folder: Path, weights: bytes = b"weights", config: bytes = b"{}") -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text(f"This is {folder}.")
    return str(folder)


def digest(name: str, path: str, **settings: Any) -> str:
    return Adapters({name: path}, LoRAConfig(**settings)).digest_of(LoRARequest(name, 1, path))


def test_the_model_itself_has_no_digest(tmp_path: Path) -> None:
    assert Adapters({"a": make_adapter(tmp_path / "a")}, LoRAConfig()).digest_of(None) == ""


def test_a_copy_in_another_folder_under_another_name_is_the_same(tmp_path: Path) -> None:
    """The bytes decide what is computed; what else lies in the folder does not."""
    path = make_adapter(tmp_path / "a")
    copied = shutil.copytree(path, tmp_path / "b")
    (copied / "README.md").write_text("A copy.")
    assert digest("a", path) == digest("b", str(copied)) not in ("", UNKNOWN)


@pytest.mark.parametrize("changed", [{"weights": b"weightz"}, {"config": b'{"lora_alpha": 2}'}], ids=str)
def test_one_byte_makes_another_adapter(tmp_path: Path, changed: dict[str, bytes]) -> None:
    """Also in its configuration, which scales it."""
    assert digest("a", make_adapter(tmp_path / "a")) != digest("a", make_adapter(tmp_path / "b", **changed))


@pytest.mark.parametrize(
    ("settings", "is_same"),
    [
        ({"target_modules": ["v_proj"]}, False),
        ({"lora_dtype": torch.float16}, False),
        ({"max_loras": 4, "max_lora_rank": 64, "max_cpu_loras": 8}, True),
    ],
    ids=str,
)
def test_settings_that_change_what_it_computes_count(tmp_path: Path, settings: dict[str, Any], is_same: bool) -> None:
    """Those about memory may differ between a large prefill engine and a small decode engine."""
    path = make_adapter(tmp_path / "a")
    assert (digest("a", path) == digest("a", path, **settings)) is is_same


@pytest.mark.parametrize(
    "asked", [LoRARequest("b", 1, "/there/a"), LoRARequest("a", 1, "/elsewhere")], ids=["name", "path"]
)
def test_an_adapter_that_the_configuration_does_not_name_is_unknown(asked: LoRARequest, tmp_path: Path) -> None:
    """vLLM may have been given it while it runs: nobody has seen its files then."""
    assert Adapters({"a": make_adapter(tmp_path / "a")}, LoRAConfig()).digest_of(asked) == UNKNOWN


def test_a_folder_without_an_adapter_is_unknown(tmp_path: Path) -> None:
    """vLLM will not start with it; an adapter made of nothing must not equal another one made of nothing."""
    assert digest("a", str(tmp_path)) == UNKNOWN


def test_the_digest_is_that_of_the_files_at_the_start(tmp_path: Path) -> None:
    """vLLM has loaded those: what is written over them later is not what this engine computes with."""
    path = make_adapter(tmp_path / "a")
    adapters = Adapters({"a": path}, LoRAConfig())
    before = adapters.digest_of(LoRARequest("a", 1, path))
    Path(path, "adapter_model.safetensors").write_bytes(b"other")
    assert adapters.digest_of(LoRARequest("a", 1, path)) == before != digest("a", path)
