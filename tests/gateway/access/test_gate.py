import asyncio

import pytest

from prfaas.clock import ManualClock
from prfaas.config import PriorityConfig
from prfaas.errors import RequestRejected
from prfaas.gateway.access.gate import Gate
from prfaas.observe.metrics import Metrics


class Stage:
    """A gate with some of its places taken, and those who come to it."""

    def __init__(self, max_running: int = 1, max_waiting: int = 2, max_wait_s: float = 60) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        classes = [
            PriorityConfig(name=name, max_waiting=max_waiting, max_wait_s=max_wait_s) for name in ("high", "low")
        ]
        self.gate = Gate(max_running, classes, self.clock, self.metrics.tenants)
        self.passed: list[str] = []

    def comes(self, name: str, priority: str = "high", tenant: str = "a") -> asyncio.Task[None]:
        async def come() -> None:
            await self.gate.enter(priority, tenant)
            self.passed.append(name)

        return asyncio.create_task(come())

    @property
    def waiting(self) -> float | None:
        return self.metrics.registry.get_sample_value("prfaas_waiting_requests", {"priority": "high"})


async def settle() -> None:
    """Let everything happen that can happen now."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_places_are_given_on_in_order() -> None:
    """Who leaves lets exactly one in, and a free place needs no wait."""
    stage = Stage()
    assert stage.gate.enter_now()
    assert not stage.gate.enter_now()
    tasks = [stage.comes("first"), stage.comes("second")]
    await settle()
    assert (stage.passed, stage.waiting) == ([], 2)
    stage.gate.leave()
    await settle()
    assert (stage.passed, stage.waiting) == (["first"], 1)
    stage.gate.leave()
    await asyncio.gather(*tasks)
    stage.gate.leave()
    assert stage.gate.enter_now()


async def test_full_class_refuses_at_once() -> None:
    """One too many of a class is a 429 that tells the class and when to come again; another class is not touched."""
    stage = Stage(max_waiting=1)
    stage.gate.enter_now()
    waiting = [stage.comes("high"), stage.comes("low", "low")]
    await settle()
    with pytest.raises(RequestRejected, match="class 'high'") as refusal:
        await stage.comes("too many")
    assert (refusal.value.status, refusal.value.code) == (429, "queue_full")
    assert refusal.value.retry_after_s is not None
    for _ in waiting:
        stage.gate.leave()
    await asyncio.gather(*waiting)
    assert stage.passed == ["high", "low"]


async def test_evicted_request_is_told() -> None:
    """One that has to go for another tenant's gets the same answer, and the newcomer its place."""
    stage = Stage()
    stage.gate.enter_now()
    staying, going = stage.comes("a1"), stage.comes("a2")
    await settle()
    newcomer = stage.comes("b1", tenant="b")
    with pytest.raises(RequestRejected, match="most of them with this key"):
        await going
    stage.gate.leave()
    stage.gate.leave()
    await asyncio.gather(staying, newcomer)
    assert stage.waiting == 0


async def test_turn_that_does_not_come_is_a_503() -> None:
    """A request waits no longer than its class lets it, and leaves no trace."""
    stage = Stage(max_wait_s=0.02)
    stage.gate.enter_now()
    with pytest.raises(RequestRejected) as refusal:
        await stage.comes("late")
    assert (refusal.value.status, refusal.value.code, stage.waiting) == (503, "queue_timeout", 0)
    stage.gate.leave()
    assert stage.gate.enter_now()


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_client_that_leaves_takes_no_place(is_let_in: bool) -> None:
    """A cancelled wait leaves the line; a place that came in the same moment goes to the next one."""
    stage = Stage()
    stage.gate.enter_now()
    leaving, staying = stage.comes("leaves"), stage.comes("stays")
    await settle()
    if is_let_in:
        stage.gate.leave()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    if not is_let_in:
        stage.gate.leave()
    await staying
    assert stage.passed == ["stays"]
    assert not stage.gate.enter_now()


async def test_retry_after_follows_the_pace() -> None:
    """The slower the places become free, the later a refused request is told to come again, up to a minute."""
    stage = Stage(max_waiting=0)
    told = []
    for gap_s in (0.01, 20, 10_000):
        for _ in range(40):
            assert stage.gate.enter_now()
            stage.clock.advance(gap_s)
            stage.gate.leave()
        stage.gate.enter_now()
        with pytest.raises(RequestRejected) as refusal:
            await stage.comes("refused")
        told.append(refusal.value.retry_after_s)
        stage.gate.leave()
    assert told[0] == 1
    assert 10 < (told[1] or 0) <= 20
    assert told[2] == 60
