"""What a decision is: a placement with its reasons, or a refusal."""

from dataclasses import dataclass
from typing import Literal

import msgspec


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One way to serve a request.

    Attributes:
        decode: the engine that answers.
        prefill: another engine that prefills, None when the decode engine does it.
        is_remote: the prefill engine is in another site.
        uncached_tokens: prompt tokens that have to be computed, None when the prompt's length is unknown.
        transfer_bytes: cache bytes that cross to the decode engine; None when none do or their size is unknown.
        first_token_s: predicted seconds from now to the first token, None when nothing can be predicted.
        speed: how the speed of the engine that prefills is known, ``configured`` or ``measured``; None when it is not.
    """

    decode: str
    prefill: str | None
    is_remote: bool
    uncached_tokens: int | None = None
    transfer_bytes: int | None = None
    first_token_s: float | None = None
    speed: str | None = None


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where a request is prefilled and decoded, and why.

    Attributes:
        decode: the engine that answers.
        prefill: another engine that prefills and hands its cache over, None when the decode engine does it.
        reasons: what tipped the decision, in the order in which it was found; at least one.
        is_same_site: the prefill engine belongs to the decode engine's site.
        candidates: the best few that were compared, the chosen one first.
        alternatives: where the request may go next when this fails, in this order, without deciding again: other
            engines elsewhere, the ways within the site, another decode engine alone.
    """

    decode: str
    prefill: str | None
    reasons: tuple[str, ...]
    is_same_site: bool = False
    candidates: tuple[Candidate, ...] = ()
    alternatives: tuple[Candidate, ...] = ()

    @property
    def kind(self) -> Literal["local", "remote"]:
        """Whether the prefill is in another site: as in headers and metrics."""
        return "remote" if self.is_remote else "local"

    @property
    def is_remote(self) -> bool:
        """The cache comes over a link from another site."""
        return self.prefill is not None and not self.is_same_site

    @property
    def is_handed_over(self) -> bool:
        """The cache comes from another engine, of whatever site: there is a transfer."""
        return self.prefill is not None

    @property
    def prefill_engine(self) -> str:
        """Whichever engine prefills."""
        return self.prefill or self.decode

    @property
    def uncached_tokens(self) -> int | None:
        """Prompt tokens that the prefill engine has to compute, None when unknown."""
        return self.candidates[0].uncached_tokens if self.candidates else None

    @property
    def first_token_s(self) -> float | None:
        """Predicted seconds from the decision to the first token, None when nothing was predicted."""
        return self.candidates[0].first_token_s if self.candidates else None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that no engine should get now.

    Attributes:
        status: HTTP status: 429 in a brown-out, 503 when no engine takes requests, 403 for a tenant of other sites.
        retry_after_s: when to try again, None when that would not help.
        reason: names sites and engines; for the log and the decision's record.
        message: for the client.
    """

    status: int
    retry_after_s: int | None
    reason: str
    message: str
