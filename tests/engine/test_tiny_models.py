"""The tiny models as files: complete, deterministic, with a byte-level tokenizer. vLLM is not needed here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from prfaas.engine.tiny import ARCHITECTURES, make_tiny_model
from prfaas.engine.tiny.__main__ import main
from prfaas.engine.tiny.checkpoint import MARKER, content_version
from prfaas.errors import ConfigError

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    MARKER,
}
EVERY_CHARACTER_WIDTH = "plain é 中文 🙂 \x00\t\n\x7f \U0010ffff"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("qwen3_next", tmp_path_factory.mktemp("models") / "qwen3_next")


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return tensors


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_checkpoint_is_complete(arch: str, tmp_path: Path) -> None:
    """Every architecture writes all files, with room for 20,000 tokens and an embedding of the vocabulary."""
    folder = make_tiny_model(arch, tmp_path / arch)
    assert {file.name for file in folder.iterdir()} == FILES
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] >= 32768
    tensors = read_tensors(folder)
    assert tensors["model.embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"])
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_layers_write_to_the_state_channels_only(arch: str, tmp_path: Path) -> None:
    """No layer writes to the constant channel, on which the head's byte frequencies rest."""
    tensors = read_tensors(make_tiny_model(arch, tmp_path / arch))
    writers = ("o_proj", "out_proj", "down_proj", "output_linear", "w2")
    written = [tensor for name, tensor in tensors.items() if name.removesuffix(".weight").endswith(writers)]
    assert written
    assert not any(bool(tensor[0].any()) for tensor in written)


def test_same_seed_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    """Two models of one seed are equal byte for byte, and another seed changes the weights."""
    again, other = make_tiny_model("qwen3_next", tmp_path / "a"), make_tiny_model("qwen3_next", tmp_path / "b", seed=1)
    assert all((again / file).read_bytes() == (model / file).read_bytes() for file in FILES)
    assert (other / "model.safetensors").read_bytes() != (model / "model.safetensors").read_bytes()


def test_finished_model_is_left_alone(tmp_path: Path) -> None:
    """A second call does not touch a folder that is up to date."""
    folder = make_tiny_model("dense", tmp_path / "m")
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert make_tiny_model("dense", tmp_path / "m") == folder
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


@pytest.mark.parametrize("change", [{"version": "older"}, {"seed": 7}])
def test_stale_model_is_replaced(tmp_path: Path, change: dict[str, object]) -> None:
    """A folder of another version or seed is made anew, and nothing is left beside it."""
    folder = make_tiny_model("dense", tmp_path / "m")
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(marker | change))
    (folder / "config.json").unlink()
    make_tiny_model("dense", folder)
    assert json.loads((folder / MARKER).read_text()) == marker
    assert marker["version"] == content_version()
    assert (folder / "config.json").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    """A folder that holds something else is never overwritten."""
    (tmp_path / "precious").write_text("keep me")
    with pytest.raises(ConfigError, match="is not a tiny model"):
        make_tiny_model("dense", tmp_path)
    assert (tmp_path / "precious").read_text() == "keep me"


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails half-way, neither the folder nor scratch files remain."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("prfaas.engine.tiny.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make_tiny_model("dense", tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_unknown_architecture_names_the_known_ones(tmp_path: Path) -> None:
    """A wrong name is answered with the right ones."""
    with pytest.raises(ConfigError, match=r"'qwen9'.*qwen3_next.*dense"):
        make_tiny_model("qwen9", tmp_path / "m")


def test_one_byte_is_one_token(tokenizer: Any) -> None:
    """Any text encodes to its UTF-8 bytes and decodes back to itself."""
    ids = tokenizer.encode(EVERY_CHARACTER_WIDTH)
    assert ids == list(EVERY_CHARACTER_WIDTH.encode())
    assert tokenizer.decode(ids) == EVERY_CHARACTER_WIDTH


def test_every_byte_has_its_own_token(tokenizer: Any) -> None:
    """Token ids 0 to 255 are the byte values, those outside UTF-8 included."""
    names = tokenizer.convert_ids_to_tokens(list(range(256)))
    assert len(set(names)) == 256
    assert tokenizer.convert_tokens_to_ids(names) == list(range(256))


def test_special_tokens_are_single_ids(tokenizer: Any) -> None:
    """Special tokens are one id each, beyond the bytes, and the one that ends a message is the end of sequence."""
    assert tokenizer.encode("<|im_start|>a<|im_end|><|endoftext|>") == [257, 97, 258, 256]
    assert tokenizer.eos_token_id == 258


def test_chat_template_writes_messages_tools_and_prompt(tokenizer: Any) -> None:
    """All roles, parts and calls appear, tools once in the system block, and the assistant's turn is opened."""
    call = {"type": "function", "function": {"name": "get", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42"},
    ]
    tools = [{"type": "function", "function": {"name": "get"}}]
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.\n\nFunctions that you may call:\n"
        '{"type": "function", "function": {"name": "get"}}\n<|im_end|>\n'
        "<|im_start|>user\nHello<|im_end|>\n"
        '<|im_start|>assistant\n\n<tool_call>{"name": "get", "arguments": "{}"}</tool_call><|im_end|>\n'
        "<|im_start|>tool\n42<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_chat_template_without_tools(tokenizer: Any) -> None:
    """A system message without tools stands in its own block, and no turn is opened unless asked for."""
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"


def test_command_line_reports_its_errors_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the folder that it made, and one line when it cannot."""
    (tmp_path / "other").mkdir()
    assert main(["dense", str(tmp_path / "m")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'm'}\n"
    assert main(["dense", str(tmp_path / "other")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
