"""What this engine tells its peers about its model and the shape of its cache.

Two engines may exchange cache bytes when all of it is equal. Prefix caching, the number of blocks and the block sizes
of full attention are left out on purpose: rows travel by token, states by token count, so those may differ.
"""

import hashlib
import json
import platform
from pathlib import Path

import torch
import vllm
from vllm.config import VllmConfig
from vllm.model_executor.layers.mamba.mamba_utils import get_conv_state_layout
from vllm.v1.kv_cache_interface import AttentionSpec, KVCacheConfig, KVCacheSpec, MambaSpec, SlidingWindowSpec

from prfaas.engine.geometry import cpu_isa, layer_spec
from prfaas.engine.layout import AttentionLayer, CacheLayout
from prfaas.types import Fingerprint

SAMPLES, SAMPLE_BYTES = 16, 1 << 18
"""Weights are sampled evenly over each file: reading a whole checkpoint would double the start-up time."""

WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")

CONFIG_KEYS_OF_THE_PLACE = ("_name_or_path", "transformers_version")
"""Entries of a model's configuration that say where it lies or who wrote it, not what it computes."""


def build_fingerprint(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig, layout: CacheLayout) -> Fingerprint:
    """Collect the fields in the order in which a mismatch is worth reporting."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    speculative = vllm_config.speculative_config
    fields = {
        "vllm": vllm.__version__,
        "architecture": ",".join(model.hf_config.architectures or ()),
        "model_config": _config_digest(vllm_config),
        "weights": _weights_digest(vllm_config),
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": str(model.quantization),
        "cache_dtype": str(vllm_config.cache_config.cache_dtype),
        "cache_layout": str(kv_cache_config.kv_cache_layout),
        "conv_state_layout": str(get_conv_state_layout()),
        "device": _device(layout),
        "tensor_parallel": str(parallel.tensor_parallel_size),
        "pipeline_parallel": str(parallel.pipeline_parallel_size),
        "decode_context_parallel": str(parallel.decode_context_parallel_size),
        "speculative_tokens": str(speculative.num_speculative_tokens if speculative else 0),
    }
    by_layer = kv_cache_config.transfer_group_index_by_layer
    for name, layer in zip(layout.names, layout.layers, strict=True):
        spec = layer_spec(kv_cache_config.transfer_groups[by_layer[name]], name)
        granularity = layer.granularity if isinstance(layer, AttentionLayer) else 0
        fields[f"layer {name}"] = _describe(spec, granularity, cpu_isa(vllm_config, name))
    return Fingerprint(fields=fields, layers=layout.names)


def _describe(spec: KVCacheSpec, granularity: int, isa: str) -> str:
    if isinstance(spec, MambaSpec):
        tensors = zip(spec.shapes, spec.dtypes, strict=True)
        return " ".join([spec.mamba_type.name, *(f"{tuple(shape)}:{dtype}" for shape, dtype in tensors)])
    assert isinstance(spec, AttentionSpec)
    # Both sides keep whole blocks from the window's beginning on, so they have to agree where blocks begin.
    is_windowed = isinstance(spec, SlidingWindowSpec)
    window = f" window {spec.sliding_window} in blocks of {spec.block_size}" if is_windowed else ""
    packed = f" packed by {granularity}" if granularity > 1 else ""
    heads = f"{spec.num_kv_heads}x{spec.head_size}+{spec.head_size_v}"
    return f"{type(spec).__name__} {heads} {spec.dtype} {isa}{window}{packed}".replace("torch.", "")


def _device(layout: CacheLayout) -> str:
    first = layout.layers[0]
    device = (first.slabs[0] if isinstance(first, AttentionLayer) else first.pages).device
    if device.type == "cpu":
        return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return str(device.type)


def _config_digest(vllm_config: VllmConfig) -> str:
    config = vllm_config.model_config.hf_config.to_dict()
    for key in CONFIG_KEYS_OF_THE_PLACE:
        config.pop(key, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _weights_digest(vllm_config: VllmConfig) -> str:
    """Digest of a local checkpoint's files (sampled), or the repository's revision."""
    model = vllm_config.model_config
    folder = Path(model.model)
    if not folder.is_dir():
        commit = getattr(model.hf_config, "_commit_hash", None) or model.revision or "main"
        return f"{model.model}@{commit}"
    digest = hashlib.sha256()
    for file in sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern)):
        _add_samples(digest, file)
    return digest.hexdigest()[:16]


def _add_samples(digest: "hashlib._Hash", file: Path) -> None:
    size = file.stat().st_size
    digest.update(f"{file.name}:{size}".encode())
    with file.open("rb") as handle:
        for sample in range(SAMPLES):
            handle.seek(max(0, size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
            digest.update(handle.read(SAMPLE_BYTES))
