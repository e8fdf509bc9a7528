"""Tiny models of the test run, made once and kept for the next run."""

import json
import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prfaas.engine.tiny import make_tiny_model

ADAPTED = ("v_proj", "o_proj", "out_proj")
FOLDER = Path(__file__).parents[2] / ".prfaas" / "models"


def tiny_model(architecture: str, seed: int = 0) -> Path:
    """Folder of a tiny model; seed 0 is the demo's."""
    return make_tiny_model(architecture, FOLDER / (architecture if seed == 0 else f"{architecture}-{seed}"), seed)


def tiny_adapter(model: Path, folder: Path, seed: int, rank: int = 8) -> Path:
    """A LoRA adapter for a tiny model, as PEFT writes it: random, and as large as the weights that it adds to.

    It changes values, so that caches differ, and outputs, which are written to the state channels alone, as there.
    """
    random, tensors = torch.Generator().manual_seed(seed), {}
    with safe_open(next(model.glob("*.safetensors")), "pt") as weights:
        for name in weights.keys():  # noqa: SIM118  # an open file, not a mapping
            module = name.removesuffix(".weight")
            if module.rpartition(".")[2] not in ADAPTED:
                continue
            base = weights.get_tensor(name).float()
            rows, columns = base.shape
            read = torch.randn(rank, columns, generator=random) / math.sqrt(columns)
            written = torch.randn(rows, rank, generator=random) * base.std(1, keepdim=True) * math.sqrt(columns / rank)
            tensors[f"base_model.model.{module}.lora_A.weight"] = read.bfloat16()
            tensors[f"base_model.model.{module}.lora_B.weight"] = written.bfloat16()
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ADAPTED, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def prompt_tokens(length: int, seed: int) -> list[int]:
    """A prompt of printable bytes (token id = byte) that no other seed shares beyond chance."""
    state = seed * 2654435761 % 2**32 or 1
    tokens = []
    for _ in range(length):
        state = (1103515245 * state + 12345) % 2**31
        tokens.append(32 + (state >> 16) % 95)
    return tokens
