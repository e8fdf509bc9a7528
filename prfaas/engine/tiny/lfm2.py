"""LFM2: short convolutions and full attention.

Its head is its embedding, so a dense layer holds the table of successors.
"""

import math

import torch

from prfaas.engine.tiny import layers, text
from prfaas.engine.tiny.checkpoint import Checkpoint
from prfaas.engine.tiny.weights import BYTE_CHANNELS, HEAD_SCALE, HIDDEN, STATE, STATE_SCALE, UNWRITTEN, Weights

_KINDS = ["conv", "conv", "full_attention", "conv", "conv", "full_attention"]
_DENSE = 2 * HIDDEN
_CONV_WIDTH = 3
_HEAD_DIM = HIDDEN // layers.HEADS  # this family has no field for it

_CONFIG: dict[str, object] = {
    "architectures": ["Lfm2ForCausalLM"],
    "model_type": "lfm2",
    "tie_word_embeddings": True,
    "num_hidden_layers": len(_KINDS),
    "layer_types": _KINDS,
    "num_attention_heads": layers.HEADS,
    "num_key_value_heads": layers.KV_HEADS,
    "intermediate_size": _DENSE,
    "block_auto_adjust_ff_dim": False,
    "conv_L_cache": _CONV_WIDTH,
    # vLLM reads these four, which transformers no longer has.
    "conv_dim": HIDDEN,
    "conv_dim_out": HIDDEN,
    "block_dim": HIDDEN,
    "block_ff_dim": _DENSE,
    "norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
}
_LETTERS = len(text.ALPHABET)
_SCORES = slice(STATE.start, STATE.start + _LETTERS)  # state channels: one for each letter of the alphabet
_MIXED = slice(_SCORES.stop, STATE.stop - 1)
_WRITTEN = STATE.stop - 1  # tells the alphabet from what is never written

_NORMED = math.sqrt(HIDDEN / (1 + BYTE_CHANNELS))
"""What a norm multiplies the residual stream by: the constant and the byte channels alone have this inverse RMS."""

_STEEP = 8.0
"""Input of the constant unit: large enough for SiLU to be the identity there."""


def build(seed: int) -> Checkpoint:
    """The checkpoint for one seed."""
    weights = Weights(seed)
    for layer, kind in enumerate(_KINDS):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "operator_norm", "ffn_norm")
        if kind == "conv":
            weights.read(f"{prefix}.conv.in_proj.weight", 3 * HIDDEN)
            weights.random(f"{prefix}.conv.conv.weight", HIDDEN, 1, _CONV_WIDTH, std=0.7)
            weights.write(f"{prefix}.conv.out_proj.weight", HIDDEN, gain=0.3)
        else:
            attention = f"{prefix}.self_attn"
            layers.attention(weights, attention, gain=0.8, head_dim=_HEAD_DIM, out="out_proj")
            layers.head_norms(weights, attention, "q_layernorm", "k_layernorm", head_dim=_HEAD_DIM)
        for name in ("w1", "w3"):
            weights.read(f"{prefix}.feed_forward.{name}.weight", _DENSE)
        weights.write(f"{prefix}.feed_forward.w2.weight", _DENSE, gain=0.2)
    _successor_layer(weights, "model.layers.0.feed_forward")
    _tied_embedding(weights)
    return Checkpoint(_CONFIG, weights.tensors)


def _tied_embedding(weights: Weights) -> None:
    """The embedding also is the head: its state channels and the last norm make it one."""
    embedding = weights.embedding()
    letters = torch.tensor(text.ALPHABET)
    mixed = weights.normal("mixed", _LETTERS, _MIXED.stop - _MIXED.start)
    embedding[letters, _SCORES] = torch.eye(_LETTERS) * STATE_SCALE
    embedding[letters, _MIXED] = mixed * (STATE_SCALE / math.sqrt(mixed.shape[1]))
    embedding[:, _WRITTEN] = -STATE_SCALE
    embedding[letters, _WRITTEN] = STATE_SCALE
    weights.put("model.embed_tokens.weight", embedding)
    unit = 1 / (STATE_SCALE**2 * _NORMED)
    norm = torch.zeros(HIDDEN)
    norm[STATE] = HEAD_SCALE * unit
    norm[_WRITTEN] = HEAD_SCALE * -UNWRITTEN / 2 * unit
    weights.put("model.embedding_norm.weight", norm)


def _successor_layer(weights: Weights, prefix: str) -> None:
    """Turn a dense layer into the table that other models have in their heads.

    Hidden unit i is 1 when the current byte is letter i; the unit after those is always 1.
    """
    common, follows = text.successor_scores()
    byte, constant = _NORMED * math.sqrt(BYTE_CHANNELS), _NORMED * _STEEP
    gate, up, down = torch.zeros(_DENSE, HIDDEN), torch.zeros(_DENSE, HIDDEN), torch.zeros(HIDDEN, _DENSE)
    unit = torch.arange(_LETTERS)
    gate[unit, 1 + unit], up[unit, 1 + unit] = 1.0, 1 / byte**2
    gate[_LETTERS, 0], up[_LETTERS, 0] = _STEEP, _STEEP / constant**2
    down[_SCORES, :_LETTERS] = follows.T - torch.eye(_LETTERS)  # the embedding has put 1 there for its own byte
    down[_SCORES, _LETTERS] = common / 2
    down[_WRITTEN, _LETTERS] = 6.0  # outweighs embedding and state: the alphabet wins after any byte
    for name, matrix in (("w1", gate), ("w3", up), ("w2", down * STATE_SCALE)):
        weights.put(f"{prefix}.{name}.weight", matrix)
