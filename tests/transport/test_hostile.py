"""A decode engine that breaks the rules, against a real prefill mover."""

import asyncio
import random
from collections.abc import Callable
from typing import TypeAlias, cast

import grpc
import pytest

from prfaas.transport.data_socket import TOKEN_BYTES
from prfaas.transport.grpc_options import CHANNEL_OPTIONS
from prfaas.transport.messages import LoadComplete, OfferSave
from prfaas.transport.transfer_pb2_grpc import KvLinkStub
from prfaas.wire import control
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import ControlMessage, decode_batch, encode_batch
from prfaas.wire.session import Identity, hello
from tests.transport.movers import CONFIG, Pair, rows, statistics_of

Stream: TypeAlias = "grpc.aio.StreamStreamCall[pb.ControlBatch, pb.ControlBatch]"
HELLO = hello(Identity("mallory", 9, CONFIG.slot_bytes, CONFIG.fingerprint))


async def session(target: str, batches: list[pb.ControlBatch]) -> list[ControlMessage]:
    """Say these things in one session and return all that is answered until the mover ends it, or we do. Batches after
    the first are numbered, if they are not."""
    heard: list[ControlMessage] = []
    for number, batch in enumerate(batches):
        batch.number = batch.number or number
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        stream = KvLinkStub(channel).Session()  # type: ignore[no-untyped-call]
        try:
            for batch in batches:
                await stream.write(batch)
            await stream.done_writing()
            while isinstance(reply := await stream.read(), pb.ControlBatch):
                heard += decode_batch(reply)
        except grpc.aio.AioRpcError:
            pass
    return heard


async def hear(stream: Stream) -> list[ControlMessage]:
    batch = await stream.read()
    assert isinstance(batch, pb.ControlBatch)
    return decode_batch(batch)


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    """The mover under attack, and the honest decode engine that must not notice."""
    return shared_pair


async def test_a_session_that_does_not_begin_with_hello_hears_nothing(pair: Pair) -> None:
    """Neither another message, nor a batch of two, nor an unknown kind is answered."""
    for messages in ([pb.ControlMessage()], [pb.ControlMessage(credit=pb.Credit(frames=1))]):
        assert await session(pair.prefill.mover.listen, [pb.ControlBatch(messages=messages)]) == []
    assert await session(pair.prefill.mover.listen, [encode_batch([HELLO, HELLO])]) == []


async def test_what_belongs_to_another_transfer_cannot_be_ended_or_started(pair: Pair) -> None:
    """Start, Done and Abort with another session's handles do not touch its transfers."""
    pair.prefill.scheduler.send(OfferSave("honest", "secret", 16, 30.0))
    meddling: list[ControlMessage] = [HELLO]
    for handle in range(2000):
        meddling += [control.Start(handle, 0, 16), control.Abort(handle, "x"), control.Done(handle)]
    batches = [encode_batch(meddling[:1])]
    batches += [encode_batch(meddling[at : at + 200]) for at in range(1, len(meddling), 200)]
    await session(pair.prefill.mover.listen, batches)
    assert isinstance(pair.move("honest", rows(16), 16), LoadComplete)


async def test_random_messages_end_the_session_and_nothing_else(pair: Pair) -> None:
    """Any sequence of well-formed messages leaves the mover serving its honest peer, with nothing open."""
    chaos = random.Random(7)
    small: Callable[[], int] = lambda: chaos.choice([0, 1, 2, 5, (1 << 32) - 1])  # noqa: E731
    makers: list[Callable[[], ControlMessage]] = [
        lambda: control.Open(small(), chaos.choice(["a", "b"]), chaos.choice(["", "s"]), small()),
        lambda: control.Start(small(), small(), small()),
        lambda: control.Credit(small()),
        lambda: control.Ack(small(), small()),
        lambda: control.Lost(small(), small()),
        lambda: control.Done(small()),
        lambda: control.Abort(small(), "x"),
        lambda: control.Heartbeat(small(), small(), small()),
        lambda: control.Accepted(small()),
    ]
    for _ in range(60):
        messages = [chaos.choice(makers)() for _ in range(20)]
        await session(pair.prefill.mover.listen, [encode_batch([HELLO]), encode_batch(messages)])
    assert isinstance(pair.move("after the attack", rows(16), 16), LoadComplete)


async def test_a_handle_cannot_be_opened_twice(pair: Pair) -> None:
    """The second Open of a bound handle ends the session before it can take another transfer."""
    for name in ("first", "second"):
        pair.prefill.scheduler.send(OfferSave(name, "secret", 16, 30.0))
    opens = [control.Open(1, "first", "secret", 1000), control.Open(1, "second", "secret", 1000)]
    heard = await session(pair.prefill.mover.listen, [encode_batch([HELLO]), encode_batch(list(opens))])
    assert heard.count(control.Accepted(1)) <= 1
    assert isinstance(pair.move("second", rows(16), 16), LoadComplete)


async def test_no_session_goes_on_without_its_token(pair: Pair) -> None:
    """A guess is not answered, whatever it resembles, and the session of the honest peer stays as it is."""
    for token in (b"", bytes(TOKEN_BYTES), b"x" * 4000):
        assert await session(pair.prefill.mover.listen, [encode_batch([control.Resume(token, 0)])]) == []
    assert isinstance(pair.move("after the guesses", rows(16), 16), LoadComplete)


async def test_a_newer_stream_takes_over(pair: Pair) -> None:
    """Who shows the token goes on where the other stream stopped, and hears again what it has not; the other ends, for
    it may only seem alive."""

    async def hear_abort(stream: Stream) -> None:
        while not any(isinstance(message, control.Abort) for message in await hear(stream)):
            pass

    async with asyncio.timeout(60), grpc.aio.insecure_channel(pair.prefill.mover.listen) as channel:
        old, new = (cast(Stream, KvLinkStub(channel).Session()) for _ in range(2))  # type: ignore[no-untyped-call]
        await old.write(encode_batch([HELLO]))
        (welcome,) = await hear(old)
        assert isinstance(welcome, control.Welcome)
        await old.write(encode_batch([control.Open(1, "nobody's", "secret", 0)], 1))
        await hear_abort(old)
        await new.write(encode_batch([control.Resume(welcome.session_token, 0)]))
        assert await hear(new) == [control.Resumed(1)]
        await hear_abort(new)
        with pytest.raises(grpc.aio.AioRpcError):
            await hear_abort(old)
        # One that was resumed since is not taken over by a message that comes late.
        await new.write(encode_batch([control.Open(2, "nobody's", "secret", 0)], 2, 1))
        await hear_abort(new)
        late = [encode_batch([control.Resume(welcome.session_token, 0)])]
        assert await session(pair.prefill.mover.listen, late) == []
        await new.write(encode_batch([control.Bye()], 3))
        while isinstance(await new.read(), pb.ControlBatch):
            pass


@pytest.mark.parametrize(("number", "received"), [(2, 0), (1, 1 << 40)], ids=["a gap", "what was never written"])
async def test_batches_out_of_order_end_the_session(pair: Pair, number: int, received: int) -> None:
    """A peer that lost count is not guessed at: its stream ends, and its token opens nothing any more."""
    async with asyncio.timeout(60), grpc.aio.insecure_channel(pair.prefill.mover.listen) as channel:
        stream = cast(Stream, KvLinkStub(channel).Session())  # type: ignore[no-untyped-call]
        await stream.write(encode_batch([HELLO]))
        (welcome,) = await hear(stream)
        assert isinstance(welcome, control.Welcome)
        await stream.write(encode_batch([control.Credit(1)], number, received))
        while isinstance(await stream.read(), pb.ControlBatch):
            pass
    assert await session(pair.prefill.mover.listen, [encode_batch([control.Resume(welcome.session_token, 0)])]) == []


def test_nothing_is_left_after_all_this(pair: Pair) -> None:
    """Slots, saves and sessions are those of the honest peer."""
    pair.settle()
    pair.until(lambda: statistics_of(pair.prefill).accepted_sessions == 1)
