"""From a model's ``config.json`` to the layers of its cache. Pure: nothing is loaded, no torch.

Shapes and data types are those that vLLM 0.32 gives each family. A family that is not in ``FAMILIES`` is refused: a
guess at an unknown layer would look like knowledge.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prfaas.errors import ConfigError
from prfaas.planner.layers import AttentionCache, ModelCache, StateCache, state_bytes

Settings = Mapping[str, Any]
"""The entries of a ``config.json``, of its text part if it has several."""

BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class CacheTypes:
    """Data types as vLLM's options name them; ``auto`` is what vLLM makes of the model's own.

    Attributes:
        attention: ``--kv-cache-dtype``.
        conv: ``--mamba-cache-dtype``, also of a state that has no type of its own.
        state: ``--mamba-ssm-cache-dtype``.
    """

    attention: str = AUTO
    conv: str = AUTO
    state: str = AUTO


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of an element."""

    attention: int
    conv: int
    state: int


def model_cache(config: Settings, types: CacheTypes | None = None) -> ModelCache:
    """The cache of the model that a ``config.json`` describes.

    Raises:
        ConfigError: a family, a layer or a data type that is not known here, or an entry that is missing.
    """
    text = config.get("text_config") or config
    name = str(text.get("model_type") or config.get("model_type"))
    named = (name, *(config.get("architectures") or ()))
    family = next((FAMILIES[each] for each in reversed(named) if each in FAMILIES), None)
    if family is None:
        raise ConfigError(
            f"the cache of a {name!r} model ({', '.join(named[1:]) or 'no architecture named'}) cannot be computed "
            "from its configuration: its size has to be measured, with --config or --gateway"
        )
    try:
        kinds = family(text, _sizes(name, text, types or CacheTypes()))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"the configuration of this {name!r} model lacks what its cache is made of: {error}"
        ) from None
    return ModelCache(tuple(kind for kind in kinds if kind.layers))


def _sizes(name: str, config: Settings, types: CacheTypes) -> _Sizes:
    own = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    conv = own if types.conv == AUTO else types.conv
    state = types.state
    if state == AUTO:
        # vLLM's own rules: Qwen3.5 says it in its configuration, KDA is always float32, others follow the convolution.
        state = "float32" if name == "kimi_linear" else str(config.get("mamba_ssm_dtype") or conv)
    attention = own if types.attention == AUTO else types.attention
    for each in (attention, conv, state):
        if each not in BYTES:
            raise ConfigError(f"a cache of {each!r}: its bytes are not known here; known: {', '.join(BYTES)}")
    return _Sizes(BYTES[attention], BYTES[conv], BYTES[state])


Family = Callable[[Settings, _Sizes], tuple[AttentionCache | StateCache, ...]]


def _grouped(
    config: Settings, sizes: _Sizes, layers: int, window: int | None = None, prefix: str = ""
) -> AttentionCache:
    """Attention with K and V of some heads; ``prefix`` is before the names of what windowed layers have apart."""
    query_heads = config[f"{prefix}num_attention_heads"]
    heads = config.get(f"{prefix}num_key_value_heads") or query_heads
    size = config.get(f"{prefix}head_dim") or config["hidden_size"] // query_heads
    value_size = config.get(f"{prefix}v_head_dim") or size
    return AttentionCache(layers, sizes.attention * heads * (size + value_size), window, shards=heads)


def _latent(config: Settings, sizes: _Sizes, layers: int) -> AttentionCache:
    """MLA: one latent and one rotary key for all heads."""
    return AttentionCache(layers, sizes.attention * (config["kv_lora_rank"] + config["qk_rope_head_dim"]))


def _plain(config: Settings, sizes: _Sizes) -> tuple[AttentionCache, ...]:
    """Full attention, with windowed layers where ``layer_types`` names some."""
    kinds = config.get("layer_types")
    if kinds is None and config.get("use_sliding_window"):
        raise KeyError("layer_types")
    kinds = kinds or ["full_attention"] * config["num_hidden_layers"]
    windowed = kinds.count("sliding_attention")
    if windowed + kinds.count("full_attention") != len(kinds):
        raise ConfigError(f"layers of the kinds {', '.join(sorted(set(kinds)))}: the cache of some is not known here")
    full = _grouped(config, sizes, len(kinds) - windowed)
    return (full, _grouped(config, sizes, windowed, config["sliding_window"])) if windowed else (full,)


def _windowed(config: Settings, sizes: _Sizes) -> tuple[AttentionCache, ...]:
    """As above, where the family has windows even if ``layer_types`` does not say in which layers."""
    return _plain({**config, "use_sliding_window": True}, sizes)


def _latent_only(config: Settings, sizes: _Sizes) -> tuple[AttentionCache, ...]:
    return (_latent(config, sizes, config["num_hidden_layers"]),)


def _gated_delta_net(config: Settings, sizes: _Sizes) -> tuple[AttentionCache | StateCache, ...]:
    """Qwen3-Next and Qwen3.5: a gated delta net in all but every fourth layer."""
    layers = config["num_hidden_layers"]
    kinds = config.get("layer_types")
    full = kinds.count("full_attention") if kinds else layers // config.get("full_attention_interval", 4)
    key, value = config["linear_key_head_dim"], config["linear_value_head_dim"]
    heads, key_heads = config["linear_num_value_heads"], config["linear_num_key_heads"]
    remembered = config["linear_conv_kernel_dim"] - 1
    state = state_bytes(sizes.state, heads, key, value)
    conv = state_bytes(sizes.conv, remembered, 2 * key * key_heads + value * heads)
    return _grouped(config, sizes, full), StateCache(layers - full, state + conv, shards=heads)


def _kimi(config: Settings, sizes: _Sizes) -> tuple[AttentionCache | StateCache, ...]:
    """Kimi Linear: Kimi delta attention (KDA) and MLA."""
    linear = config.get("linear_attn_config")
    if linear is None:  # as transformers writes it
        delta = config["layer_types"].count("linear_attention")
        full = len(config["layer_types"]) - delta
        heads, size, width = (config[f"linear_{name}"] for name in ("num_heads", "head_dim", "conv_kernel_dim"))
    else:
        delta, full = len(linear["kda_layers"]), len(linear["full_attn_layers"])
        heads, size, width = linear["num_heads"], linear["head_dim"], linear["short_conv_kernel_size"]
    state = state_bytes(sizes.state, heads, size, size)
    conv = state_bytes(sizes.conv, width - 1, 3 * heads * size)
    return _latent(config, sizes, full), StateCache(delta, state + conv, shards=heads)


def _mimo(config: Settings, sizes: _Sizes) -> tuple[AttentionCache, ...]:
    """MiMo-V2: windowed layers (1 in the pattern) have heads of their own."""
    windowed = config["hybrid_layer_pattern"].count(1)
    window = config.get("sliding_window_size") or config["sliding_window"]
    full = _grouped(config, sizes, len(config["hybrid_layer_pattern"]) - windowed)
    return full, _grouped(config, sizes, windowed, window, prefix="swa_")


def _lightning(config: Settings, sizes: _Sizes) -> tuple[AttentionCache | StateCache, ...]:
    """Ring-2.5 and Ling-2.5: lightning attention, and MLA in the last layer of each group. There is no convolution, but
    vLLM gives the state the type of one."""
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    full = layers // config["layer_group_size"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    state = StateCache(layers - full, state_bytes(sizes.conv, heads, size, size), shards=heads)
    return _latent(config, sizes, full), state


def _short_convolution(config: Settings, sizes: _Sizes) -> tuple[AttentionCache | StateCache, ...]:
    """LFM2: all that a layer without attention keeps is what its convolution remembers."""
    kinds = config.get("layer_types")
    full = kinds.count("full_attention") if kinds else len(config["full_attn_idxs"])
    width = config.get("conv_dim") or config["hidden_size"]
    conv = state_bytes(sizes.conv, config["conv_L_cache"] - 1, width)
    return _grouped(config, sizes, full), StateCache(config["num_hidden_layers"] - full, conv, shards=width)


FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe"), _gated_delta_net),
    "kimi_linear": _kimi,
    **dict.fromkeys(("mimo_v2_flash", "mimo_v2"), _mimo),
    # By architecture: other models with other layers share its model type.
    "BailingMoeV2_5ForCausalLM": _lightning,
    **dict.fromkeys(("lfm2", "lfm2_moe"), _short_convolution),
    **dict.fromkeys(("llama", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "minimax_m2"), _plain),
    "gemma3_text": _windowed,
    "deepseek_v3": _latent_only,
}
"""By model type, or by architecture, which comes first."""
