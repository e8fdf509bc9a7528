"""How this engine runs, for whoever looks whether it fits its site (``prfaas doctor``).

These settings need not agree with a peer's, and so are no part of the fingerprint.
"""

import vllm
from vllm.config import VllmConfig
from vllm.model_executor.layers.mamba.mamba_utils import get_conv_state_layout
from vllm.v1.core.kv_cache_utils import resolve_kv_cache_block_sizes
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig

from prfaas import __version__


def engine_facts(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> dict[str, str]:
    """By name, as text; ``prfaas/doctor/engine_flags.py`` says what they should be."""
    cache, transfer, events = vllm_config.cache_config, vllm_config.kv_transfer_config, vllm_config.kv_events_config
    is_published = events is not None and events.enable_kv_cache_events
    interval = cache.prefix_cache_retention_interval
    specs = [group.kv_cache_spec for group in kv_cache_config.kv_cache_groups]
    return {
        "prfaas": __version__,
        "vllm": vllm.__version__,
        "max_model_len": str(vllm_config.model_config.max_model_len),
        "hybrid_cache_manager": _on(not vllm_config.scheduler_config.disable_hybrid_kv_cache_manager),
        "hybrid_cache": _on(any(not isinstance(spec, FullAttentionSpec) for spec in specs)),
        "prefix_caching": _on(bool(cache.enable_prefix_caching)),
        "prefix_hash": str(cache.prefix_caching_hash_algo),
        "kv_events": str(events.publisher) if is_published else "off",
        "retention_interval": "every block" if interval is None else str(interval),
        "block_tokens": str(_block_tokens(vllm_config, kv_cache_config)),
        "conv_state_layout": str(get_conv_state_layout()),
        "load_failure_policy": str(transfer.kv_load_failure_policy) if transfer else "none",
    }


def _block_tokens(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> int:
    """What cached prefixes end at; 0 where none are cached, for then vLLM does not say."""
    is_cached = vllm_config.cache_config.enable_prefix_caching
    return resolve_kv_cache_block_sizes(kv_cache_config, vllm_config)[0] if is_cached else 0


def _on(is_on: bool) -> str:
    return "on" if is_on else "off"
