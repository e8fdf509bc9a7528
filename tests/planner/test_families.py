"""Cache bytes from a model's layers, against figures worked out by hand and the paper's."""

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner.families import CacheTypes, model_cache
from prfaas.planner.layers import AttentionCache, ModelCache, StateCache
from prfaas.planner.profile_file import load_profile

MIB = 1 << 20

PAPERS = {
    "model_type": "kimi_linear",
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "linear_attn_config": {
        "kda_layers": [*range(42)],
        "full_attn_layers": [*range(15)],
        "num_heads": 64,
        "head_dim": 128,
        "short_conv_kernel_size": 4,
    },
}
"""The shape that gives the paper's four sizes: twice Kimi Linear's heads, 42 KDA layers and 15 of MLA."""

QWEN3_NEXT = {
    "model_type": "qwen3_next",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "dtype": "bfloat16",
}
MIMO = {
    "model_type": "mimo_v2_flash",
    "hybrid_layer_pattern": [0, *([1, 1, 1, 1, 0] * 7), *([1] * 11), 0],
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 192,
    "v_head_dim": 128,
    "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 8,
    "swa_head_dim": 192,
    "swa_v_head_dim": 128,
    "sliding_window_size": 128,
}
RING = {
    "model_type": "bailing_hybrid",
    "architectures": ["BailingMoeV2_5ForCausalLM"],
    "num_hidden_layers": 80,
    "layer_group_size": 8,
    "num_attention_heads": 64,
    "hidden_size": 8192,
    "head_dim": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}
LFM2 = {
    "model_type": "lfm2",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "layer_types": ["conv", "conv", "full_attention"] * 5 + ["conv"],
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "conv_L_cache": 3,
}
QWEN3 = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "hidden_size": 4096,
}


@pytest.mark.parametrize(("tokens", "mib"), [(1024, 190.8), (8192, 308.9), (32_000, 701.3), (130_000, 2316.3)])
def test_the_papers_sizes(tokens: int, mib: float) -> None:
    """KDA and MLA give each KV size of the paper's case study; its lengths in thousands are rounded."""
    assert model_cache(PAPERS).bytes_at(tokens) / MIB == pytest.approx(mib, abs=0.1)


def test_the_papers_line_is_that_of_its_profile() -> None:
    """The straight line is the one that ``data/paper_h200.yaml`` has."""
    with as_file(files("prfaas.planner") / "data" / "paper_h200.yaml") as path:
        assert model_cache(PAPERS).size() == load_profile(path).cache_size()


@pytest.mark.parametrize(
    ("config", "tokens", "expected"),
    [
        # 12 layers * 2 heads * (256 + 256) * 2 bytes a token; 36 states of 32 * 128 * 128 and 3 * 8192, 2 bytes each.
        (QWEN3_NEXT, 1000, 12 * 2048 * 1000 + 36 * (1_048_576 + 49_152)),
        # The same with a float32 state, as Qwen3.5 wants it: 2 MiB each.
        (
            {"model_type": "qwen3_5_moe", "text_config": QWEN3_NEXT | {"mamba_ssm_dtype": "float32"}},
            1000,
            12 * 2048 * 1000 + 36 * (2_097_152 + 49_152),
        ),
        # 9 layers * 4 heads * 320 * 2 bytes a token; 39 windowed ones * 8 heads * 320 * 2 bytes for the last 127.
        (MIMO, 1000, 9 * 2560 * 1000 + 39 * 5120 * 127),
        # Shorter than the window: all of it.
        (MIMO, 100, 9 * 2560 * 100 + 39 * 5120 * 100),
        # 10 layers * 576 * 2 bytes a token; 70 states of 64 * 128 * 128 * 2 bytes.
        (RING, 1000, 10 * 1152 * 1000 + 70 * 2_097_152),
        # 5 layers * 8 heads * (64 + 64) * 2 bytes a token; 11 convolutions of 2048 * 2 * 2 bytes.
        (LFM2, 1000, 5 * 2048 * 1000 + 11 * 8192),
        # 94 layers * 4 heads * 256 * 2 bytes a token.
        (QWEN3, 1000, 94 * 2048 * 1000),
    ],
)
def test_hand_worked_sizes(config: dict[str, Any], tokens: int, expected: int) -> None:
    """Every family of the mission, in bytes."""
    assert model_cache(config).bytes_at(tokens) == expected


def test_kimi_linear_as_transformers_writes_it() -> None:
    """The configuration with ``layer_types`` says the same as the original one."""
    linear = PAPERS["linear_attn_config"]
    assert isinstance(linear, dict)
    written = {key: value for key, value in PAPERS.items() if key != "linear_attn_config"} | {
        "layer_types": ["linear_attention"] * 42 + ["full_attention"] * 15,
        "linear_num_heads": linear["num_heads"],
        "linear_head_dim": linear["head_dim"],
        "linear_conv_kernel_dim": linear["short_conv_kernel_size"],
    }
    assert model_cache(written) == model_cache(PAPERS)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (CacheTypes(), 24_576 * 10 + 36 * (1_048_576 + 49_152)),
        (CacheTypes(attention="fp8"), 12_288 * 10 + 36 * (1_048_576 + 49_152)),
        (CacheTypes(state="float32"), 24_576 * 10 + 36 * (2_097_152 + 49_152)),
        (CacheTypes(conv="float32"), 24_576 * 10 + 36 * 2 * (1_048_576 + 49_152)),
    ],
)
def test_data_types(types: CacheTypes, expected: int) -> None:
    """The engine's options decide over bytes, each over its part; a state without one follows the convolution."""
    assert model_cache(QWEN3_NEXT, types).bytes_at(10) == expected


def test_copies_of_tensor_parallel_ranks_count() -> None:
    """Eight ranks hold an MLA latent eight times, two KV heads four times each, and 32 heads' states once."""
    assert model_cache(RING).bytes_at(100, ranks=8) == 8 * 10 * 1152 * 100 + 70 * 2_097_152
    assert model_cache(QWEN3_NEXT).bytes_at(100, ranks=8) == 4 * 24_576 * 100 + 36 * (1_048_576 + 49_152)


def test_a_window_begins_at_a_block() -> None:
    """With blocks of 16 the last 127 tokens of 1000 begin at 864 instead of 873."""
    cache = ModelCache((AttentionCache(1, 10, window=128),))
    assert cache.bytes_at(1000) == 1270
    assert cache.bytes_at(1000, block_tokens=16) == 1360


def test_the_last_token_of_a_prompt_does_not_travel() -> None:
    """It is computed where it is decoded."""
    cache = ModelCache((AttentionCache(1, 10), StateCache(1, 7, 1)))
    assert cache.prompt_bytes(100) == 997


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba9"}, "mamba9.*measured"),
        ({}, "cannot be computed"),
        ({"model_type": "bailing_hybrid", "architectures": ["BailingMoeV3ForCausalLM"]}, "BailingMoeV3ForCausalLM"),
        ({"model_type": "qwen3"}, "lacks.*num_hidden_layers"),
        (QWEN3 | {"layer_types": ["chunked_attention"] * 94}, "chunked_attention"),
        (QWEN3 | {"use_sliding_window": True}, "layer_types"),
        (QWEN3 | {"model_type": "gemma3_text"}, "layer_types"),
        (QWEN3 | {"dtype": "int3"}, "int3"),
    ],
)
def test_what_is_not_known_is_refused(config: dict[str, Any], message: str) -> None:
    """An unknown family, layer or type, or a missing entry: no guess, and the way out."""
    with pytest.raises(ConfigError, match=message):
        model_cache(config)


@given(st.sampled_from([PAPERS, QWEN3_NEXT, MIMO, RING, LFM2, QWEN3]), st.integers(1, 200_000), st.integers(1, 5000))
def test_longer_prompts_never_have_less(config: dict[str, Any], tokens: int, more: int) -> None:
    """A cache grows with the prompt, and from a window's length on along its straight line."""
    cache = model_cache(config)
    assert cache.bytes_at(tokens) <= cache.bytes_at(tokens + more)
    size, length = cache.size(), tokens + 127
    assert cache.bytes_at(length) == size.state_bytes + size.row_bytes(length)


def test_a_real_files_text(tmp_path: Path) -> None:
    """What ``json`` reads is what is taken."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN3))
    assert model_cache(json.loads((tmp_path / "config.json").read_text())).describe().startswith("94 attention layers")
