"""Models without recurrent layers: plain attention (Qwen3) and two with sliding windows (Gemma 3, MiMo-V2-Flash)."""

import math

from prfaas.engine.tiny import layers
from prfaas.engine.tiny.checkpoint import Checkpoint
from prfaas.engine.tiny.weights import HIDDEN, STATE_SCALE, Weights

_DENSE = 2 * HIDDEN
_ATTENTION_GAIN, _DENSE_GAIN = 0.6, 0.2
_ROPE_THETA, _LOCAL_ROPE_THETA = 1_000_000.0, 10_000.0

_COMMON_CONFIG: dict[str, object] = {
    "num_attention_heads": layers.HEADS,
    "num_key_value_heads": layers.KV_HEADS,
    "head_dim": layers.HEAD_DIM,
    "intermediate_size": _DENSE,
    "attention_bias": False,
    "rms_norm_eps": 1e-6,
}

_PLAIN_LAYERS = 4


def build_dense(seed: int) -> Checkpoint:
    """Qwen3: every layer attends to everything."""
    weights = Weights(seed)
    for layer in range(_PLAIN_LAYERS):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "input_layernorm", "post_attention_layernorm")
        layers.attention(weights, f"{prefix}.self_attn", _ATTENTION_GAIN)
        layers.head_norms(weights, f"{prefix}.self_attn", "q_norm", "k_norm")
        layers.dense(weights, f"{prefix}.mlp", _DENSE, _DENSE_GAIN)
    layers.embeddings(weights, "norm")
    config: dict[str, object] = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": _PLAIN_LAYERS,
        "rope_parameters": {"rope_type": "default", "rope_theta": _ROPE_THETA},
    }
    return Checkpoint(_COMMON_CONFIG | config, weights.tensors)


_GEMMA_LAYERS, _GEMMA_FULL_EVERY, _GEMMA_WINDOW = 6, 6, 256
_GEMMA_GAIN = 0.15  # lower than elsewhere: a normed branch always has its full size


def build_gemma3(seed: int) -> Checkpoint:
    """Gemma 3, text only: five windowed layers to a full one; norms scale by 1 + weight, branches are normed too."""
    kinds = ["sliding_attention" if (i + 1) % _GEMMA_FULL_EVERY else "full_attention" for i in range(_GEMMA_LAYERS)]
    weights = Weights(seed)
    for layer in range(_GEMMA_LAYERS):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "input_layernorm", "pre_feedforward_layernorm", weight=0.0)
        layers.norms(weights, prefix, "post_attention_layernorm", weight=_GEMMA_GAIN * STATE_SCALE - 1.0)
        layers.norms(weights, prefix, "post_feedforward_layernorm", weight=_GEMMA_GAIN * STATE_SCALE - 1.0)
        layers.attention(weights, f"{prefix}.self_attn", gain=1.0)
        layers.head_norms(weights, f"{prefix}.self_attn", "q_norm", "k_norm", offset=1.0)
        layers.dense(weights, f"{prefix}.mlp", _DENSE, gain=1.0)
    layers.embeddings(weights, "norm", norm_weight=0.0)
    weights.put("model.embed_tokens.weight", weights.embedding() / math.sqrt(HIDDEN))  # the model multiplies by it
    config: dict[str, object] = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": _GEMMA_LAYERS,
        "layer_types": kinds,
        "sliding_window": _GEMMA_WINDOW,
        "query_pre_attn_scalar": layers.HEAD_DIM,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": _ROPE_THETA},
            "sliding_attention": {"rope_type": "default", "rope_theta": _LOCAL_ROPE_THETA},
        },
    }
    return Checkpoint(_COMMON_CONFIG | config, weights.tensors)


_MIMO_PATTERN = [0, 1, 1, 1, 1, 1, 0]  # 1 is a windowed layer
_MIMO_WINDOW = 128
_MIMO_WINDOW_KV_HEADS, _MIMO_FULL_KV_HEADS = 2, 1


def build_mimo(seed: int) -> Checkpoint:
    """MiMo-V2-Flash without routed experts, its fields named as vLLM reads them."""
    weights = Weights(seed)
    for layer, is_windowed in enumerate(_MIMO_PATTERN):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "input_layernorm", "post_attention_layernorm")
        kv_heads = _MIMO_WINDOW_KV_HEADS if is_windowed else _MIMO_FULL_KV_HEADS
        layers.attention(weights, f"{prefix}.self_attn", _ATTENTION_GAIN, kv_heads=kv_heads)
        layers.dense(weights, f"{prefix}.mlp", _DENSE, _DENSE_GAIN)
    layers.embeddings(weights, "norm")
    config: dict[str, object] = {
        "architectures": ["MiMoV2FlashForCausalLM"],
        "model_type": "mimo_v2_flash",
        "num_hidden_layers": len(_MIMO_PATTERN),
        "hybrid_layer_pattern": _MIMO_PATTERN,
        "moe_layer_freq": [0] * len(_MIMO_PATTERN),
        "n_routed_experts": 0,
        "num_key_value_heads": _MIMO_FULL_KV_HEADS,
        "v_head_dim": layers.HEAD_DIM,
        "swa_num_attention_heads": layers.HEADS,
        "swa_num_key_value_heads": _MIMO_WINDOW_KV_HEADS,
        "swa_head_dim": layers.HEAD_DIM,
        "swa_v_head_dim": layers.HEAD_DIM,
        "sliding_window": _MIMO_WINDOW,
        "sliding_window_size": _MIMO_WINDOW,
        "attention_value_scale": 1.0,
        "add_swa_attention_sink_bias": False,
        "layernorm_epsilon": 1e-6,
        "rope_theta": _ROPE_THETA,
        "swa_rope_theta": _LOCAL_ROPE_THETA,
        "partial_rotary_factor": 0.5,  # of the head's dims; vLLM's CPU kernel wants a multiple of 16
    }
    return Checkpoint(_COMMON_CONFIG | config, weights.tensors)
