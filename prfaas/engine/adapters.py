"""The LoRA adapters that this engine's configuration names, and what tells their contents apart.

A cache that was computed with one adapter is wrong for any other, so both engines of a transfer compare the digests of
their adapters' files. Two sites may keep them in different folders; a name alone would not tell that one of them still
has last week's weights.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from vllm.config.lora import LoRAConfig
from vllm.lora.request import LoRARequest
from vllm.lora.utils import get_adapter_absolute_path

logger = logging.getLogger(__name__)

FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
"""What vLLM reads of an adapter; it takes the first of the weight files that is there."""
UNKNOWN = "unknown"
"""In place of the digest of an adapter whose files this engine cannot vouch for. No decode engine asks for it."""

DIGITS = 16
"""Of a digest in hexadecimal: against mistakes, not against those who make equal ones on purpose."""


class Adapters:
    """Digests of the configured adapters, taken once, when vLLM is about to load them."""

    def __init__(self, paths: Mapping[str, str], config: LoRAConfig | None) -> None:
        """``paths`` gives the folder or the repository of each by its name, as vLLM is told them."""
        self._digests = {(name, path): _digest(name, path, config) for name, path in paths.items()}

    def digest_of(self, request: LoRARequest | None) -> str:
        """What a cache computed with this adapter is known by: empty for the model itself, ``UNKNOWN``."""
        return "" if request is None else self._digests.get((request.lora_name, request.lora_path), UNKNOWN)


def _digest(name: str, path: str, config: LoRAConfig | None) -> str:
    """Of the files entirely: they are small, and checkpoints of one training may differ in few places."""
    folder = Path(get_adapter_absolute_path(path))
    files = [file for file in (folder / name for name in FILES) if file.is_file()]
    if not files:
        logger.warning("adapter %s: no files in %s: its prompts are prefilled where they are decoded", name, folder)
        return UNKNOWN
    digest = hashlib.sha256(json.dumps(_settings(config), sort_keys=True).encode())
    for file in files:
        with file.open("rb") as handle:
            digest.update(file.name.encode() + hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:DIGITS]


def _settings(config: LoRAConfig | None) -> dict[str, object]:
    """Those of vLLM's settings that decide what an adapter computes. The others are about memory and speed."""
    if config is None:
        return {}
    return {
        "lora_dtype": str(config.lora_dtype),
        "target_modules": sorted(config.target_modules or ()),
        "enable_mixed_moe_lora_format": config.enable_mixed_moe_lora_format,
        "enable_moe_shared_loras": config.enable_moe_shared_loras,
    }
