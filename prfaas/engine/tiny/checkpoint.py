"""A checkpoint folder that is complete or absent, and knows which version of the makers wrote it."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from prfaas.engine.tiny.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE, write_tokenizer
from prfaas.engine.tiny.weights import HIDDEN
from prfaas.errors import ConfigError

MAX_TOKENS = 32768
"""``max_position_embeddings`` of every tiny model: room for the 20,000-token tests."""

MARKER = "tiny_model.json"
"""Names architecture, seed and content version of a finished folder."""

COMMON_FIELDS: dict[str, object] = {
    "vocab_size": VOCABULARY_SIZE,
    "bos_token_id": None,
    "eos_token_id": SPECIAL_TOKENS["<|im_end|>"],
    "pad_token_id": SPECIAL_TOKENS["<|endoftext|>"],
    "max_position_embeddings": MAX_TOKENS,
    "hidden_size": HIDDEN,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    # vLLM then computes logits in float32: with a bfloat16 head the two best are often exactly equal.
    "head_dtype": "float32",
}
"""Fields that every ``config.json`` has; an architecture may override them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What ``config.json`` has besides ``COMMON_FIELDS``, and the tensors by their checkpoint names."""

    config: dict[str, object]
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class TinyArchitecture:
    """One kind of small model.

    Attributes:
        summary: the cache kinds that it brings, for help texts.
        build: makes the checkpoint for a seed.
        serve_args: flags without which vLLM does not run it on a CPU.
    """

    summary: str
    build: Callable[[int], Checkpoint]
    serve_args: tuple[str, ...] = ()


def write_checkpoint(name: str, architecture: TinyArchitecture, out: Path, seed: int) -> Path:
    """Make ``out`` hold the model; nothing is done when it already holds this version of it.

    Raises:
        ConfigError: ``out`` is something else than a folder written by this function.
    """
    marker = {"architecture": name, "seed": seed, "version": content_version()}
    if _read_marker(out) == marker:
        return out
    if out.exists() and _read_marker(out) is None:
        raise ConfigError(f"{out} exists and is not a tiny model; remove it or name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        made, old = Path(scratch) / "made", Path(scratch) / "old"
        made.mkdir()
        _write_files(made, architecture.build(seed))
        (made / MARKER).write_text(json.dumps(marker))
        if out.exists():
            out.rename(old)
        try:
            made.rename(out)
        except OSError:
            # Another process has finished the same model first: its copy is as good as this one.
            if _read_marker(out) != marker:
                raise
    return out


def content_version() -> str:
    """Changes whenever the code that makes the models does."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    config = COMMON_FIELDS | checkpoint.config
    generation = {key: config[key] for key in ("eos_token_id", "pad_token_id")} | {"do_sample": False}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))
    write_tokenizer(folder, MAX_TOKENS)
    tensors = folder / "model.safetensors"
    save_file(checkpoint.tensors, tensors, metadata={"format": "pt"})
    tensors.chmod(0o644)  # written for its owner alone, where the other files follow the umask


def _read_marker(folder: Path) -> dict[str, object] | None:
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None
