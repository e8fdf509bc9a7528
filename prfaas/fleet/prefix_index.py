"""Which engine has which prefixes, from the feeds of all engines."""

from collections.abc import Iterable
from dataclasses import dataclass

from prfaas.fleet.block_hash import PromptHashes, Way
from prfaas.fleet.block_table import BlockTable
from prfaas.fleet.hybrid_match import match
from prfaas.prefix import PrefixGeometry, PrefixUpdate

MAX_ENGINES = 64
"""Of one shard: a block's mask has so many bits. More engines of a geometry get another shard."""


@dataclass(frozen=True, slots=True)
class PrefixState:
    """How well one engine's prefix cache is known.

    Attributes:
        is_followed: its feed is there.
        is_exact: no event has been lost, so what is predicted is what the engine will do.
    """

    is_followed: bool = False
    is_exact: bool = False

    @property
    def knowledge(self) -> str:
        """In a word, one of ``KNOWLEDGE``."""
        return "guessed" if not self.is_followed else "exact" if self.is_exact else "partial"


class _Shard:
    """Engines of one geometry: the bit of each, and how many blocks it has at most."""

    def __init__(self, geometry: PrefixGeometry) -> None:
        self.geometry = geometry
        self.table = BlockTable(len(geometry.groups))
        self.columns = {group.index: column for column, group in enumerate(geometry.groups)}
        self.engines: dict[str, int] = {}
        self.blocks: dict[str, int] = {}

    def join(self, engine: str, blocks: int) -> None:
        taken = set(self.engines.values())
        self.engines[engine] = next(bit for bit in range(MAX_ENGINES) if bit not in taken)
        self.blocks[engine] = blocks
        self.table.reserve(sum(self.blocks.values()))


class PrefixIndex:
    """Belongs to one event loop. ``apply`` and ``forget`` follow feeds; ``hits`` is a pure look-up."""

    def __init__(self) -> None:
        self._shards: list[_Shard] = []
        self._shard_of: dict[str, _Shard] = {}
        self._states: dict[str, PrefixState] = {}

    @property
    def ways(self) -> tuple[Way, ...]:
        """How prompts have to be hashed: what ``PromptHasher`` takes."""
        geometries = (shard.geometry for shard in self._shards)
        return tuple(dict.fromkeys((each.hash_tokens, each.root) for each in geometries if each.groups))

    def state(self, engine: str) -> PrefixState:
        """How well this engine is known."""
        return self._states.get(engine, PrefixState())

    def apply(self, engine: str, update: PrefixUpdate) -> None:
        """Take the next update of an engine's feed. The first one of a feed brings the geometry."""
        if update.geometry is not None:
            self.forget(engine)
            self._join(engine, update.geometry, update.blocks)
        shard = self._shard_of[engine]
        bit = 1 << shard.engines[engine]
        if update.is_reset and update.geometry is None:
            shard.table.discard_all(bit)
        for change in update.changes:
            if (column := shard.columns.get(change.group)) is not None:
                (shard.table.add if change.is_stored else shard.table.discard)(change.hashes, column, bit)
        self._states[engine] = PrefixState(is_followed=True, is_exact=update.is_exact)

    def forget(self, engine: str) -> None:
        """The engine's feed has ended: nothing is known of it any more."""
        self._states.pop(engine, None)
        shard = self._shard_of.pop(engine, None)
        if shard is None:
            return
        shard.table.discard_all(1 << shard.engines.pop(engine))
        del shard.blocks[engine]
        if not shard.engines:
            self._shards.remove(shard)

    def hits(self, prompt: PromptHashes) -> dict[str, int]:
        """Engine -> tokens of the prompt that it would reuse now, for those above 0."""
        found: dict[str, int] = {}
        for shard in self._shards:
            chain = prompt.chains.get((shard.geometry.hash_tokens, shard.geometry.root))
            if chain is not None and len(chain):
                by_bit = match(shard.geometry, chain, prompt.count - 1, shard.table.masks)
                found |= {engine: by_bit[bit] for engine, bit in shard.engines.items() if bit in by_bit}
        return found

    def sizes(self) -> Iterable[tuple[int, int]]:
        """Blocks and bytes of every shard."""
        return [(len(shard.table), shard.table.nbytes) for shard in self._shards]

    def _join(self, engine: str, geometry: PrefixGeometry, blocks: int) -> None:
        fitting = (s for s in self._shards if s.geometry == geometry and len(s.engines) < MAX_ENGINES)
        shard = next(fitting, None)
        if shard is None:
            shard = _Shard(geometry)
            self._shards.append(shard)
        shard.join(engine, blocks)
        self._shard_of[engine] = shard
