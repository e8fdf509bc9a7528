"""Hashing prompts, without hashing again what a conversation had before."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from prfaas.fleet.block_hash import ContentKeys, Links, PromptHashes, Tokens, Way, hash_links, low_bits

MAX_TOKENS = 4_000_000
"""Of all remembered prompts: 16 MiB, and 8 MiB of links in blocks of 16 tokens. Some hundred long conversations."""
MAX_SIBLINGS = 8
"""Conversations that begin alike and are remembered, the latest: each is compared with a prompt that begins so."""

_Beginning = tuple[Way, ContentKeys, bytes]


@dataclass(frozen=True, slots=True)
class _Prompt:
    tokens: Tokens
    links: Links


class PromptHasher:
    """Belongs to one thread at a time."""

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._siblings: OrderedDict[_Beginning, list[_Prompt]] = OrderedDict()
        self._tokens = 0

    def hash(self, tokens: Tokens, keys: ContentKeys, ways: Iterable[Way]) -> PromptHashes:
        """The prompt's chains, one for each way."""
        return PromptHashes(len(tokens), {way: low_bits(self._links(tokens, way, keys)) for way in ways})

    def _links(self, tokens: Tokens, way: Way, keys: ContentKeys) -> Links:
        first = hash_links(tokens[: way[0]], way, keys)
        if not len(first):
            return first
        beginning = (way, keys, first.tobytes())
        siblings = self._siblings.setdefault(beginning, [])
        self._siblings.move_to_end(beginning)
        shared = [_shared(tokens, sibling.tokens) for sibling in siblings]
        nearest = max(range(len(siblings)), key=shared.__getitem__, default=None)
        known = first if nearest is None else siblings[nearest].links[: shared[nearest] // way[0]]
        prompt = _Prompt(tokens, hash_links(tokens, way, keys, known))
        if nearest is not None and shared[nearest] == len(siblings[nearest].tokens):
            self._tokens -= len(siblings.pop(nearest).tokens)  # the same conversation, grown
        siblings.append(prompt)
        self._tokens += len(tokens)
        self._forget(siblings)
        return prompt.links

    def _forget(self, siblings: list[_Prompt]) -> None:
        if len(siblings) > MAX_SIBLINGS:
            self._tokens -= len(siblings.pop(0).tokens)
        while self._tokens > self._max_tokens:
            _, oldest = self._siblings.popitem(last=False)
            self._tokens -= sum(len(prompt.tokens) for prompt in oldest)


def _shared(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    count = min(len(one), len(other))
    differing = np.flatnonzero(one[:count] != other[:count])
    return int(differing[0]) if len(differing) else count
