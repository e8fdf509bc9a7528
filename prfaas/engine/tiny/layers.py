"""The layers that several architectures share, under the names that their checkpoints give them."""

import math

import torch

from prfaas.engine.tiny.weights import HIDDEN, Weights

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64

SHARPNESS = 1.7
"""Deviation of queries and keys: scores then have its square, so that a few tokens out of hundreds dominate."""

MAMBA_HEADS, MAMBA_HEAD_DIM, MAMBA_STATE, MAMBA_CONV_WIDTH = 4, 64, 64, 4
_MAMBA_INNER = MAMBA_HEADS * MAMBA_HEAD_DIM


def embeddings(weights: Weights, final_norm: str, norm_weight: float = 1.0) -> None:
    """The tensors before the first and after the last layer."""
    weights.put("model.embed_tokens.weight", weights.embedding())
    weights.constant(f"model.{final_norm}.weight", HIDDEN, norm_weight)
    weights.put("lm_head.weight", weights.head())


def norms(weights: Weights, prefix: str, *names: str, weight: float = 1.0) -> None:
    """RMS norms over the residual stream."""
    for name in names:
        weights.constant(f"{prefix}.{name}.weight", HIDDEN, weight)


def attention(
    weights: Weights,
    prefix: str,
    gain: float,
    *,
    kv_heads: int = KV_HEADS,
    head_dim: int = HEAD_DIM,
    out: str = "o_proj",
) -> None:
    """Attention without norms of its own: the projections set the sharpness of its scores."""
    weights.read(f"{prefix}.q_proj.weight", HEADS * head_dim, SHARPNESS)
    weights.read(f"{prefix}.k_proj.weight", kv_heads * head_dim, SHARPNESS)
    weights.read(f"{prefix}.v_proj.weight", kv_heads * head_dim)
    weights.write(f"{prefix}.{out}.weight", HEADS * head_dim, gain)


def head_norms(weights: Weights, prefix: str, *names: str, head_dim: int = HEAD_DIM, offset: float = 0.0) -> None:
    """RMS norms of queries and keys; ``offset`` is what the family adds to a norm's weight."""
    for name in names:
        weights.constant(f"{prefix}.{name}.weight", head_dim, SHARPNESS - offset)


def dense(weights: Weights, prefix: str, size: int, gain: float) -> None:
    """A gated dense layer."""
    weights.read(f"{prefix}.gate_proj.weight", size)
    weights.read(f"{prefix}.up_proj.weight", size)
    weights.write(f"{prefix}.down_proj.weight", size, gain)


def mamba2(weights: Weights, prefix: str, gain: float) -> None:
    """A Mamba2 mixer without biases, with one group and a gated norm."""
    convolved = _MAMBA_INNER + 2 * MAMBA_STATE
    weights.read(f"{prefix}.in_proj.weight", _MAMBA_INNER + convolved + MAMBA_HEADS)
    weights.random(f"{prefix}.conv1d.weight", convolved, 1, MAMBA_CONV_WIDTH, std=0.7)
    # With A = -1 a head forgets within about 1 / dt tokens: 10 to 300 from the first to the last.
    steps = torch.logspace(math.log10(0.1), math.log10(0.003), MAMBA_HEADS)
    weights.put(f"{prefix}.dt_bias", torch.log(torch.expm1(steps)), torch.float32)
    weights.put(f"{prefix}.A_log", torch.zeros(MAMBA_HEADS), torch.float32)
    weights.put(f"{prefix}.D", torch.zeros(MAMBA_HEADS), torch.float32)  # no way around the state
    weights.constant(f"{prefix}.norm.weight", _MAMBA_INNER, 1.0)
    weights.write(f"{prefix}.out_proj.weight", _MAMBA_INNER, gain)
