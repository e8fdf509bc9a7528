"""Two hybrids with Mamba2: GraniteMoeHybrid (layers of either kind) and Falcon-H1 (both kinds in every layer)."""

from prfaas.engine.tiny import layers
from prfaas.engine.tiny.checkpoint import Checkpoint
from prfaas.engine.tiny.weights import HIDDEN, Weights

SERVE_ARGS = ("--no-enable-prefix-caching",)
"""With prefix caching, vLLM's Mamba2 mixer fails on a CPU (an IndexError)."""

_DENSE = 2 * HIDDEN
_MAMBA_GAIN, _DENSE_GAIN = 0.3, 0.2

_MAMBA_CONFIG: dict[str, object] = {
    "mamba_n_heads": layers.MAMBA_HEADS,
    "mamba_d_head": layers.MAMBA_HEAD_DIM,
    "mamba_d_state": layers.MAMBA_STATE,
    "mamba_d_conv": layers.MAMBA_CONV_WIDTH,
    "mamba_n_groups": 1,
    "mamba_expand": layers.MAMBA_HEADS * layers.MAMBA_HEAD_DIM // HIDDEN,
    "mamba_conv_bias": False,
    "mamba_proj_bias": False,
    "rms_norm_eps": 1e-6,
}

_GRANITE_LAYERS, _GRANITE_FULL_EVERY = 8, 4
_GRANITE_HEAD_DIM = HIDDEN // layers.HEADS  # this family has no field for it


def build_granite(seed: int) -> Checkpoint:
    """GraniteMoeHybrid without routed experts: three Mamba2 layers to one of attention without positions."""
    kinds = ["linear_attention" if (i + 1) % _GRANITE_FULL_EVERY else "full_attention" for i in range(_GRANITE_LAYERS)]
    weights = Weights(seed)
    for layer, kind in enumerate(kinds):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "input_layernorm", "post_attention_layernorm")
        if kind == "linear_attention":
            layers.mamba2(weights, f"{prefix}.mamba", _MAMBA_GAIN)
        else:
            layers.attention(weights, f"{prefix}.self_attn", gain=1.2, head_dim=_GRANITE_HEAD_DIM)
        weights.read(f"{prefix}.shared_mlp.input_linear.weight", 2 * _DENSE)
        weights.write(f"{prefix}.shared_mlp.output_linear.weight", _DENSE, _DENSE_GAIN)
    layers.embeddings(weights, "norm")
    config: dict[str, object] = {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "model_type": "granitemoehybrid",
        "num_hidden_layers": _GRANITE_LAYERS,
        "layer_types": kinds,
        "num_attention_heads": layers.HEADS,
        "num_key_value_heads": layers.KV_HEADS,
        "attention_multiplier": _GRANITE_HEAD_DIM**-0.5,
        "intermediate_size": _DENSE,
        "shared_intermediate_size": _DENSE,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
    }
    return Checkpoint(_MAMBA_CONFIG | config, weights.tensors)


_FALCON_LAYERS = 4


def build_falcon(seed: int) -> Checkpoint:
    """Falcon-H1 with all multipliers 1."""
    weights = Weights(seed)
    for layer in range(_FALCON_LAYERS):
        prefix = f"model.layers.{layer}"
        layers.norms(weights, prefix, "input_layernorm", "pre_ff_layernorm")
        layers.mamba2(weights, f"{prefix}.mamba", _MAMBA_GAIN)
        layers.attention(weights, f"{prefix}.self_attn", gain=0.6)
        layers.dense(weights, f"{prefix}.feed_forward", _DENSE, _DENSE_GAIN)
    layers.embeddings(weights, "final_layernorm")
    config: dict[str, object] = {
        "architectures": ["FalconH1ForCausalLM"],
        "model_type": "falcon_h1",
        "num_hidden_layers": _FALCON_LAYERS,
        "num_attention_heads": layers.HEADS,
        "num_key_value_heads": layers.KV_HEADS,
        "head_dim": layers.HEAD_DIM,
        "intermediate_size": _DENSE,
        "mamba_d_ssm": layers.MAMBA_HEADS * layers.MAMBA_HEAD_DIM,
        "mamba_rms_norm": True,
        "mamba_norm_before_gate": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    return Checkpoint(_MAMBA_CONFIG | config, weights.tensors)
