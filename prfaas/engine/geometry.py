"""From vLLM's registered cache tensors to a ``CacheLayout``.

vLLM registers an attention layer as a logical ``[pages, heads, tokens, channels]`` tensor whose first dimension is
``blocks * ratio`` when kernels use smaller pages than the cache manager, and a recurrent layer as a raw int8 page.
Layers that share another layer's cache have no bytes of their own and are left out.
"""

from collections.abc import Mapping

import torch
from vllm.config import VllmConfig
from vllm.v1.kv_cache_interface import (
    AttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

from prfaas.engine.layout import (
    AttentionLayer,
    CacheLayout,
    StateLayer,
    as_bytes,
    cpu_vec_slabs,
    opaque_slabs,
    token_major_slabs,
)
from prfaas.errors import ConfigError

CPU_VEC_ISAS = frozenset({"vec", "vec16"})
"""CPU attention kernels whose pages hold K transposed and V plain (checked by tests/engine/test_layout.py)."""


def layer_spec(group: KVCacheGroupSpec, name: str) -> KVCacheSpec:
    """The spec of one layer, also where a group wraps several specs of one type."""
    spec = group.kv_cache_spec
    return spec.kv_cache_specs[name] if isinstance(spec, UniformTypeKVCacheSpecs) else spec


def build_layout(
    vllm_config: VllmConfig, kv_cache_config: KVCacheConfig, kv_caches: Mapping[str, torch.Tensor]
) -> CacheLayout:
    """Describe every layer whose cache is handed over.

    Raises:
        ConfigError: a kind of cache that the wire has no rules for.
    """
    groups = kv_cache_config.transfer_groups
    owners: dict[tuple[int, int], str] = {}
    named: list[tuple[str, int, KVCacheSpec]] = []
    for name in sorted(kv_cache_config.transfer_group_index_by_layer, key=_model_order):
        group = kv_cache_config.transfer_group_index_by_layer[name]
        if owners.setdefault((group, kv_caches[name].data_ptr()), name) == name:
            named.append((name, group, layer_spec(groups[group], name)))
    layers = tuple(
        _layer(index, name, group, spec, kv_caches[name], kv_cache_config.num_blocks, vllm_config)
        for index, (name, group, spec) in enumerate(named)
    )
    return CacheLayout(layers=layers, names=tuple(name for name, _, _ in named))


def _model_order(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort ``model.layers.10.x`` after ``model.layers.9.x``."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in name.split("."))


def _layer(
    index: int,
    name: str,
    group: int,
    spec: KVCacheSpec,
    cache: torch.Tensor,
    num_blocks: int,
    vllm_config: VllmConfig,
) -> AttentionLayer | StateLayer:
    if isinstance(spec, MambaSpec):
        return _state_layer(index, group, spec, cache)
    if type(spec) in (FullAttentionSpec, SlidingWindowSpec, MLAAttentionSpec):
        return _attention_layer(index, name, group, spec, cache, num_blocks, vllm_config)
    raise ConfigError(
        f"layer {name} keeps its cache as {type(spec).__name__}, which cannot be handed over; "
        "run this engine without the prfaas connector"
    )


def _attention_layer(
    index: int,
    name: str,
    group: int,
    spec: AttentionSpec,
    cache: torch.Tensor,
    num_blocks: int,
    vllm_config: VllmConfig,
) -> AttentionLayer:
    page_tokens = spec.block_size * num_blocks // cache.shape[0]
    granularity = 1
    if cache.shape[2] != page_tokens:
        slabs, granularity = opaque_slabs(cache), page_tokens
    elif cache.device.type != "cpu" or isinstance(spec, MLAAttentionSpec):
        slabs = token_major_slabs(cache)
    elif cpu_isa(vllm_config, name) in CPU_VEC_ISAS and cache.itemsize > 1:
        slabs = cpu_vec_slabs(cache)
    else:
        slabs, granularity = opaque_slabs(cache), page_tokens
    return AttentionLayer(
        index=index,
        group=group,
        block_tokens=spec.block_size,
        page_tokens=page_tokens,
        granularity=granularity,
        window=spec.sliding_window if isinstance(spec, SlidingWindowSpec) else None,
        slabs=slabs,
    )


def cpu_isa(vllm_config: VllmConfig, name: str) -> str:
    """Instruction set that the CPU kernel of a layer packs its pages for; empty where there is none."""
    layer = vllm_config.compilation_config.static_forward_context.get(name)
    return str(getattr(layer, "isa", ""))


def _state_layer(index: int, group: int, spec: MambaSpec, cache: torch.Tensor) -> StateLayer:
    sizes = tuple(
        torch.Size(shape).numel() * dtype.itemsize for shape, dtype in zip(spec.shapes, spec.dtypes, strict=True)
    )
    raw = as_bytes(cache)
    pages = raw.as_strided((raw.shape[0], sum(sizes)), (raw.stride(0), 1), raw.storage_offset())
    return StateLayer(index=index, group=group, block_tokens=spec.block_size, tensor_bytes=sizes, pages=pages)
