"""Qwen3-Next: three gated-delta-net layers to one of full attention, and a mixture of experts."""

import math

import torch

from prfaas.engine.tiny import layers
from prfaas.engine.tiny.checkpoint import Checkpoint
from prfaas.engine.tiny.weights import HIDDEN, Weights

_LAYERS, _FULL_EVERY = 8, 4
_LINEAR_HEADS, _LINEAR_DIM, _CONV_WIDTH = 2, 128, 4  # vLLM's CPU kernels take no other dim or width
_EXPERTS, _EXPERT_DIM = 2, 64  # every token uses all experts: a router that chooses would turn rounding into jumps

_CONFIG: dict[str, object] = {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": _LAYERS,
    "full_attention_interval": _FULL_EVERY,
    "num_attention_heads": layers.HEADS,
    "num_key_value_heads": layers.KV_HEADS,
    "head_dim": layers.HEAD_DIM,
    "linear_num_key_heads": _LINEAR_HEADS,
    "linear_num_value_heads": _LINEAR_HEADS,
    "linear_key_head_dim": _LINEAR_DIM,
    "linear_value_head_dim": _LINEAR_DIM,
    "linear_conv_kernel_dim": _CONV_WIDTH,
    "num_experts": _EXPERTS,
    "num_experts_per_tok": _EXPERTS,
    "moe_intermediate_size": _EXPERT_DIM,
    "shared_expert_intermediate_size": _EXPERT_DIM,
    "rms_norm_eps": 1e-6,
}


def build(seed: int) -> Checkpoint:
    """The checkpoint for one seed. Norms over the residual stream scale by 1 + weight."""
    weights = Weights(seed)
    for layer in range(_LAYERS):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "input_layernorm", "post_attention_layernorm", weight=0.0)
        if (layer + 1) % _FULL_EVERY:
            _linear_attention(weights, f"{prefix}.linear_attn")
        else:
            _full_attention(weights, f"{prefix}.self_attn")
        _experts(weights, f"{prefix}.mlp")
    layers.embeddings(weights, "norm", norm_weight=0.0)
    return Checkpoint(_CONFIG, weights.tensors)


def _linear_attention(weights: Weights, prefix: str) -> None:
    width = _LINEAR_HEADS * _LINEAR_DIM
    weights.read(f"{prefix}.in_proj_qkvz.weight", 4 * width)
    weights.read(f"{prefix}.in_proj_ba.weight", 2 * _LINEAR_HEADS)
    weights.random(f"{prefix}.conv1d.weight", 3 * width, 1, _CONV_WIDTH, std=0.7)
    weights.constant(f"{prefix}.dt_bias", _LINEAR_HEADS, 0.0)
    # softplus(0) times these rates: one head forgets within about 50 tokens, the other within about 1,500.
    weights.put(f"{prefix}.A_log", torch.linspace(math.log(0.03), math.log(0.001), _LINEAR_HEADS), torch.float32)
    weights.constant(f"{prefix}.norm.weight", _LINEAR_DIM, 1.0)
    # Small, because the chunked kernel's rounding depends on where the last chunk ends, by about 1 % of this output.
    weights.write(f"{prefix}.out_proj.weight", width, gain=0.06)


def _full_attention(weights: Weights, prefix: str) -> None:
    layers.attention(weights, prefix, gain=2.0)
    weights.read(f"{prefix}.q_proj.weight", 2 * layers.HEADS * layers.HEAD_DIM)  # each head's query, then its gate
    layers.head_norms(weights, prefix, "q_norm", "k_norm", offset=1.0)


def _experts(weights: Weights, prefix: str) -> None:
    weights.read(f"{prefix}.gate.weight", _EXPERTS)
    weights.read(f"{prefix}.shared_expert_gate.weight", 1)
    for expert in ("shared_expert", *(f"experts.{index}" for index in range(_EXPERTS))):
        layers.dense(weights, f"{prefix}.{expert}", _EXPERT_DIM, gain=0.2)
