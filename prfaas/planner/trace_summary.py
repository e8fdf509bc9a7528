"""What a trace amounts to for the planner: how long its prompts are, and how much of them a prefix cache would save."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prfaas.errors import ConfigError
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.trace import BLOCK_TOKENS, TraceRequest
from prfaas.planner.workload import Workload

CACHE_BLOCKS = 1_000_000
"""Half a billion tokens in blocks of 512, more than a site keeps; a hundred MB of ids here."""


class BlockCache:
    """A site's prefix cache as a list of blocks, of which the longest unused goes first.

    Attention's rule: any prefix of whole blocks is reusable. Recurrent state, which hybrid models need as well, exists
    at few lengths only, so their hits are fewer.
    """

    def __init__(self, capacity_blocks: int = CACHE_BLOCKS, block_tokens: int = BLOCK_TOKENS) -> None:
        if capacity_blocks < 0 or block_tokens < 1:
            raise ConfigError(f"cache of {capacity_blocks} blocks of {block_tokens} tokens: neither can be so small")
        self._capacity_blocks = capacity_blocks
        self._block_tokens = block_tokens
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def admit(self, request: TraceRequest) -> int:
        """Tokens of the prompt that are cached now; afterwards all of it is. The last token is always computed."""
        return self.admit_blocks(request.block_ids, request.input_tokens)

    def admit_blocks(self, block_ids: Sequence[int], input_tokens: int) -> int:
        """The same of a prompt that is in no trace."""
        hits = 0
        for block in block_ids:
            if block not in self._blocks:
                break
            hits += 1
        # Backwards, so that ends are evicted before the beginnings they are useless without.
        for block in reversed(block_ids):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity_blocks:
            self._blocks.popitem(last=False)
        return min(hits * self._block_tokens, input_tokens - 1)


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace without its order.

    Attributes:
        requests: how many.
        span_s: seconds from the first to the last.
        inputs: lengths of the prompts.
        uncached: the same less what the prefix cache would save.
        output_tokens: mean of the answers.
    """

    requests: int
    span_s: float
    inputs: EmpiricalLengths
    uncached: EmpiricalLengths
    output_tokens: float

    @property
    def requests_s(self) -> float:
        """How fast requests came; 0 when all came at once, which says nothing of their rate."""
        return self.requests / self.span_s if self.span_s else 0.0

    @property
    def hit_share(self) -> float:
        """Of the prompts' tokens, those that the cache would save."""
        return 1 - self.uncached.mean_tokens / self.inputs.mean_tokens

    def workload(self, *, has_hits: bool = True) -> Workload:
        """For the planner, with or without a prefix cache."""
        return Workload(self.uncached if has_hits else self.inputs, self.output_tokens)


def summarise(requests: Iterable[TraceRequest], cache: BlockCache | None = None) -> TraceSummary:
    """Read requests to the end; memory is bounded by lengths and by the cache, not by their number.

    Raises:
        ConfigError: there is none, or no answer has a token.
    """
    cache = cache or BlockCache()
    inputs: dict[int, int] = {}
    uncached: dict[int, int] = {}
    output_tokens, count, last_ms = 0, 0, 0.0
    first_ms: float | None = None
    for request in requests:
        first_ms, last_ms = request.at_ms if first_ms is None else first_ms, request.at_ms
        new = request.input_tokens - cache.admit(request)
        inputs[request.input_tokens] = inputs.get(request.input_tokens, 0) + 1
        uncached[new] = uncached.get(new, 0) + 1
        output_tokens, count = output_tokens + request.output_tokens, count + 1
    if not count:
        raise ConfigError("trace: no request: there is nothing to plan for")
    return TraceSummary(
        count,
        (last_ms - (first_ms or 0.0)) / 1000,
        EmpiricalLengths.counted(inputs),
        EmpiricalLengths.counted(uncached),
        output_tokens / count,
    )
