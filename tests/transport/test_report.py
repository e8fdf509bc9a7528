"""What the gateway hears about a transfer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count, pairwise

import pytest

from prfaas.errors import TransferFailed
from prfaas.transport.messages import Cancel, LoadComplete, LoadUsed
from prfaas.transport.report import ReportClient
from prfaas.transport.report_book import MAX_FINISHED, ReportBook
from prfaas.types import TransferReport
from tests.transport.movers import Pair, rows

_numbers = count()


def new_id() -> str:
    return f"report-{next(_numbers)}"


@pytest.fixture
async def client() -> AsyncIterator[ReportClient]:
    client = ReportClient()
    yield client
    await client.aclose()


def complete(pair: Pair, name: str, *, held: int = 0) -> LoadComplete:
    outcome = pair.move(name, rows(32), 32, held)
    assert isinstance(outcome, LoadComplete)
    return outcome


async def test_a_used_transfer_is_reported_with_its_figures(shared_pair: Pair, client: ReportClient) -> None:
    """Asked before it is opened, answered once the engine has used it: tokens are those that came from remote."""
    name, target = new_id(), shared_pair.decode.mover.listen
    asked = asyncio.create_task(client.wait(target, name, "secret", 60.0))
    await asyncio.sleep(0)
    outcome = await asyncio.to_thread(complete, shared_pair, name, held=16)
    assert not asked.done()
    shared_pair.decode.mover.channel.send(LoadUsed(name, True, ""))
    report = await asked
    told = replace(report, open_s=0.0, prefilled_s=0.0, first_s=0.0, last_s=0.0, used_s=0.0)
    assert told == TransferReport(name, True, "", 16, 16, outcome.cache_bytes, outcome.early_bytes)
    assert 0 < report.first_s <= report.last_s <= report.open_s < report.used_s < 60
    assert 0 <= report.prefilled_s < 60
    assert await client.wait(target, name, "secret", 1.0) == report


@pytest.mark.parametrize("message", [LoadUsed("", False, "block gone"), Cancel("", "client gone")])
async def test_what_was_not_used_is_not_ok(shared_pair: Pair, client: ReportClient, message: LoadUsed | Cancel) -> None:
    """A complete load that the engine could not use, or no longer wants, counts no tokens."""
    name, target = new_id(), shared_pair.decode.mover.listen
    await asyncio.to_thread(complete, shared_pair, name)
    said = LoadUsed(name, False, "block gone") if isinstance(message, LoadUsed) else Cancel(name, "client gone")
    shared_pair.decode.mover.channel.send(said)
    report = await client.wait(target, name, "secret", 60.0)
    assert (report.ok, report.tokens) == (False, 0)
    assert "gone" in report.reason


async def test_a_failed_load_is_reported_with_its_reason(shared_pair: Pair, client: ReportClient) -> None:
    """The gateway hears why the request was recomputed."""
    name = new_id()
    shared_pair.open(name)
    shared_pair.decode.scheduler.send(Cancel(name, "no blocks"))
    report = await client.wait(shared_pair.decode.mover.listen, name, "secret", 60.0)
    assert not report.ok
    assert "no blocks" in report.reason
    shared_pair.prefill.scheduler.send(Cancel(name, "no blocks"))


async def test_mover_that_was_away_is_heard_soon_after_its_return(client: ReportClient) -> None:
    """However long it was away, here five seconds: the pause between two dials stays about a second."""
    dialed_s: list[float] = []
    loop = asyncio.get_running_loop()

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialed_s.append(loop.time())
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        while len(dialed_s) < 6:
            with pytest.raises(TransferFailed):
                await client.statistics(f"{host}:{port}")
            await asyncio.sleep(0.05)  # as one who asks again and again
    pauses_s = [later - sooner for sooner, later in pairwise(dialed_s)]
    assert pauses_s[-1] < 2 * pauses_s[0]


async def test_unknown_wrong_secret_and_unreachable_raise(shared_pair: Pair, client: ReportClient) -> None:
    """All three are TransferFailed; a wrong secret reads exactly like an unknown transfer."""
    name, target = new_id(), shared_pair.decode.mover.listen
    await asyncio.to_thread(complete, shared_pair, name)
    shared_pair.decode.mover.channel.send(LoadUsed(name, True, ""))
    await client.wait(target, name, "secret", 60.0)
    with pytest.raises(TransferFailed) as wrong:
        await client.wait(target, name, "guess", 0.1)
    with pytest.raises(TransferFailed) as unknown:
        await client.wait(target, "nobody", "guess", 0.1)
    assert str(wrong.value).replace(name, "") == str(unknown.value).replace("nobody", "")
    with pytest.raises(TransferFailed, match="unavailable"):
        await client.wait("127.0.0.1:1", name, "secret", 1.0)
    with pytest.raises(TransferFailed):
        await client.statistics("127.0.0.1:1")


async def test_statistics_count_what_passed(shared_pair: Pair, client: ReportClient) -> None:
    """Both movers' figures show the transfer and nothing open after it."""
    target = shared_pair.decode.mover.listen
    before = await client.statistics(target)
    outcome = await asyncio.to_thread(complete, shared_pair, new_id())
    await asyncio.to_thread(shared_pair.settle)
    after = await client.statistics(target)
    assert after.received_bytes - before.received_bytes == outcome.cache_bytes
    assert after.completed_loads - before.completed_loads == 1
    assert (after.open_loads, after.lent_receive_slots, after.dialed_sessions) == (0, 0, 1)
    sent = await client.statistics(shared_pair.prefill.mover.listen)
    assert sent.sent_bytes >= outcome.cache_bytes
    assert (sent.open_saves, sent.lent_send_slots, sent.accepted_sessions) == (0, 0, 1)


async def test_the_book_is_bounded_and_first_words_are_last() -> None:
    """Only the youngest finished reports are kept; a second report of the same transfer changes nothing."""
    book = ReportBook()
    for number in range(MAX_FINISHED + 1):
        book.open(f"t{number}", "s")
        book.finish(TransferReport(f"t{number}", ok=True))
    assert await book.wait("t0", "s", 0.0) is None
    book.finish(TransferReport("t1", ok=False))
    report = await book.wait("t1", "s", 1.0)
    assert report is not None
    assert report.ok
