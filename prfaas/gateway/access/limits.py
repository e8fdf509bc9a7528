"""Limits of one tenant: requests and tokens a minute as token buckets, and requests at once."""

import math
from dataclasses import dataclass

from prfaas.clock import Clock
from prfaas.errors import RequestRejected


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket as a value: it holds up to a minute's worth and fills at an even rate.

    Attributes:
        per_minute: what it holds when full, and what flows in within a minute.
        level: what it held at ``at_s``; negative after a request that took more than was expected of it.
        at_s: on the clock of whoever uses it.
    """

    per_minute: float
    level: float
    at_s: float

    @classmethod
    def full(cls, per_minute: float, now_s: float) -> "Bucket":
        return cls(per_minute, per_minute, now_s)

    def at(self, now_s: float) -> "Bucket":
        """The bucket as it is now; a moment that has passed already changes nothing."""
        gained = max(0.0, now_s - self.at_s) * self.per_minute / 60
        return Bucket(self.per_minute, min(self.per_minute, self.level + gained), max(now_s, self.at_s))

    def less(self, amount: float, now_s: float) -> "Bucket":
        """After ``amount`` has been taken; a negative amount is given back."""
        now = self.at(now_s)
        return Bucket(now.per_minute, min(now.per_minute, now.level - amount), now.at_s)

    def resized(self, per_minute: float, now_s: float) -> "Bucket":
        """With another limit. What has been taken stays taken, but a smaller limit makes no debt of it."""
        now = self.at(now_s)
        taken = now.per_minute - now.level
        return Bucket(per_minute, max(per_minute - taken, min(now.level, 0.0)), now.at_s)

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until it holds ``amount``, 0 when it does, infinite when it never will."""
        if amount > self.per_minute:
            return math.inf
        return max(0.0, amount - self.at(now_s).level) * 60 / self.per_minute


class TenantLimits:
    """What one tenant has used of its limits. Belongs to one event loop."""

    def __init__(
        self,
        clock: Clock,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrent: int | None = None,
    ) -> None:
        self._clock = clock
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.running = 0
        self.change(requests_per_minute, tokens_per_minute, max_concurrent)

    def change(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrent: int | None = None,
    ) -> None:
        """These are the limits from now on, None for none. What is used and what runs counts on."""
        self._requests = self._resized(self._requests, requests_per_minute)
        self._tokens = self._resized(self._tokens, tokens_per_minute)
        self._max_concurrent = max_concurrent

    def begin(self) -> None:
        """One request more. Raises RequestRejected (429), and then it does not count."""
        if self._max_concurrent is not None and self.running >= self._max_concurrent:
            message = f"{self.running} requests are running, as many as this key may have at once; try again."
            raise RequestRejected(429, message, kind="requests", code="concurrency_limit_exceeded", retry_after_s=1)
        if self._requests is not None:
            self._requests = self._taken(self._requests, 1, "requests")
        self.running += 1

    def end(self) -> None:
        """A request that has begun is over."""
        self.running -= 1

    def charge(self, tokens: int) -> None:
        """Take the tokens that a request is expected to need. Raises RequestRejected (429), and then takes none."""
        if self._tokens is not None:
            self._tokens = self._taken(self._tokens, tokens, "tokens")

    def settle(self, charged: int, used: int) -> None:
        """Replace what was expected by what was used; may leave a debt, for tokens cannot be unused."""
        if self._tokens is not None:
            self._tokens = self._tokens.less(used - charged, self._clock.now_s())

    def headers(self) -> dict[str, str]:
        """Limits, what is left of them, and when they are whole again, as OpenAI's API tells them."""
        found: dict[str, str] = {}
        for name, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                now = bucket.at(self._clock.now_s())
                found[f"x-ratelimit-limit-{name}"] = str(int(now.per_minute))
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, int(now.level)))
                found[f"x-ratelimit-reset-{name}"] = f"{now.wait_s(now.per_minute, now.at_s):.3f}s"
        return found

    def _resized(self, bucket: Bucket | None, per_minute: float | None) -> Bucket | None:
        if per_minute is None:
            return None
        now_s = self._clock.now_s()
        return bucket.resized(per_minute, now_s) if bucket else Bucket.full(per_minute, now_s)

    def _taken(self, bucket: Bucket, amount: int, what: str) -> Bucket:
        now_s = self._clock.now_s()
        wait_s = bucket.wait_s(amount, now_s)
        if wait_s == 0:
            return bucket.less(amount, now_s)
        limit = f"{int(bucket.per_minute)} {what} per minute"
        if wait_s == math.inf:
            message, retry_after_s = f"The request needs {amount} {what}; the limit is {limit}.", None
        else:
            retry_after_s = math.ceil(wait_s)
            message = f"The limit of {limit} is reached; try again in {retry_after_s} s."
        raise RequestRejected(429, message, kind=what, code="rate_limit_exceeded", retry_after_s=retry_after_s)
