"""Hashes computed without vLLM equal vLLM's own."""

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from vllm.utils.hashing import sha256_cbor
from vllm.v1.core import kv_cache_utils
from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys, hash_block_tokens, resolve_none_hash_seed

from prfaas.fleet.block_hash import ContentKeys, hash_links, low_bits

BLOCK = 16


def vllm_chain(tokens: list[int], request: Any) -> list[int]:
    kv_cache_utils.init_none_hash(sha256_cbor)
    parent, chain = None, []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        extra, _ = generate_block_hash_extra_keys(request, start, start + BLOCK, 0)
        parent = hash_block_tokens(sha256_cbor, parent, tokens[start : start + BLOCK], extra)
        chain.append(kv_cache_utils.maybe_convert_block_hash(parent))
    return chain


@pytest.mark.parametrize("seed", [None, "42"])
@pytest.mark.parametrize("salt", [None, "a tenant's"])
@pytest.mark.parametrize("adapter", [None, ("summaries", "/adapters/summaries")])
def test_the_chain_is_vllms(
    seed: str | None, salt: str | None, adapter: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if seed is not None:
        monkeypatch.setenv("PYTHONHASHSEED", seed)
    lora = SimpleNamespace(lora_name=adapter[0], lora_path=adapter[1]) if adapter else None
    request = SimpleNamespace(mm_features=[], lora_request=lora, cache_salt=salt, prompt_embeds=None)
    tokens = random.Random(5).choices([0, 23, 24, 255, 256, 65_535, 65_536, 151_935, (1 << 32) - 1], k=5 * BLOCK + 3)
    root = sha256_cbor(resolve_none_hash_seed(sha256_cbor))
    links = hash_links(np.array(tokens, np.uint32), (BLOCK, root), ContentKeys(salt, adapter))
    assert low_bits(links).tolist() == vllm_chain(tokens, request)
