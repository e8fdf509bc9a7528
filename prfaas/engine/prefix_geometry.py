"""How this engine's prefix cache names its blocks and when a prefix hits, for those who predict its hits."""

import logging
import os
from pathlib import Path

from vllm.config import VllmConfig
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import partial_hash_hits_enabled, resolve_kv_cache_block_sizes, resolve_none_hash_seed
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheSpec, MambaSpec, SlidingWindowSpec

from prfaas.errors import ConfigError
from prfaas.prefix import CacheGroup, PrefixGeometry
from prfaas.transport.settings import EventSource, PrefixSource

HASH_ALGORITHM = "sha256_cbor"
"""The one that others can compute: "sha256" depends on Python's pickle, the xxhash ones on a seed of each process."""

logger = logging.getLogger(__name__)


def prefix_source(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> PrefixSource | None:
    """What gateways can follow of this engine; None, with the reason in the log, when its hits cannot be predicted."""
    cache = vllm_config.cache_config
    blocks = kv_cache_config.num_blocks
    if not cache.enable_prefix_caching:
        return PrefixSource(PrefixGeometry(1, 1, bytes(32), ()), blocks)
    if problem := _problem(vllm_config, kv_cache_config):
        logger.warning("prfaas: gateways only guess what this engine's prefix cache holds: %s", problem)
        return None
    align_tokens, hash_tokens = resolve_kv_cache_block_sizes(kv_cache_config, vllm_config)
    hash_of = get_hash_fn_by_name(HASH_ALGORITHM)
    groups = tuple(
        _group(index, group.kv_cache_spec)
        for index, group in enumerate(kv_cache_config.kv_cache_groups)
        if group.kv_cache_spec.prefix_cacheable
    )
    root = hash_of(resolve_none_hash_seed(hash_of))
    return PrefixSource(PrefixGeometry(hash_tokens, align_tokens, root, groups), blocks, _events(vllm_config))


def make_event_folder(vllm_config: VllmConfig) -> None:
    """Make the folder of the sockets for cache events, for this user alone: the events hold prompts. vLLM binds them
    later, after the connector is made.

    Raises:
        ConfigError: the folder is there and is not this user's alone.
    """
    events = vllm_config.kv_events_config
    if events is None or not events.enable_kv_cache_events:
        return
    for endpoint in (events.endpoint, events.replay_endpoint):
        if endpoint and endpoint.startswith("ipc:///"):
            folder = Path(endpoint.removeprefix("ipc://")).parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
                raise ConfigError(f"{folder}: others may look into it, and cache events hold prompts; remove it")


def _problem(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> str:
    cache = vllm_config.cache_config
    events = vllm_config.kv_events_config
    if events is None or not events.enable_kv_cache_events or events.publisher != "zmq":
        return "it publishes no cache events; start it with --kv-events-config, as prfaas engine does"
    if cache.prefix_caching_hash_algo != HASH_ALGORITHM:
        has = cache.prefix_caching_hash_algo
        return f"its hashes are {has}; start it with --prefix-caching-hash-algo {HASH_ALGORITHM}"
    _, hash_tokens = resolve_kv_cache_block_sizes(kv_cache_config, vllm_config)
    if partial_hash_hits_enabled(kv_cache_config.kv_cache_groups, hash_tokens):
        return "it reuses parts of blocks (--prefix-match-unit)"
    for group in kv_cache_config.kv_cache_groups:
        spec = group.kv_cache_spec
        if spec.prefix_cacheable and not isinstance(spec, FullAttentionSpec | SlidingWindowSpec | MambaSpec):
            return f"it has a kind of cache that is not known here ({type(spec).__name__})"
    return ""


def _group(index: int, spec: KVCacheSpec) -> CacheGroup:
    if isinstance(spec, MambaSpec):
        return CacheGroup(index, "recurrent", spec.block_size)
    if isinstance(spec, SlidingWindowSpec):
        # What vLLM's SlidingWindowManager wants to find before a boundary.
        blocks = max(1, -(-(spec.sliding_window - 1) // spec.block_size))
        return CacheGroup(index, "window", spec.block_size, blocks)
    return CacheGroup(index, "full", spec.block_size)


def _events(vllm_config: VllmConfig) -> EventSource:
    """As seen from this machine: an endpoint that vLLM binds to all addresses is reached over loopback."""
    config = vllm_config.kv_events_config
    replay = config.replay_endpoint
    return EventSource(_local(config.endpoint), _local(replay) if replay else None, config.topic)


def _local(endpoint: str) -> str:
    return str(endpoint).replace("tcp://*", "tcp://127.0.0.1").replace("tcp://[::]", "tcp://[::1]")
