"""The wide-area link between the sites of compose.yaml: forwards TCP ports at a rate and with a delay.

    wan.py serve HOST PORT... [--rate-mbit 1000] [--rtt-ms 30]
    wan.py set [--rate-mbit N] [--rtt-ms N] [--down | --up]

``serve`` listens on each port and dials the same one of HOST. All connections together get the rate, each direction its
own, and every byte arrives half the round trip later. ``set`` changes that while it runs: ``--down`` lets nothing
through and closes nothing, as a cut cable does. It needs no rights and nothing of the kernel (decision 090), only the
standard library. The kernels at both ends see the short way to this process, so their TCP ramps up faster than over a
real link; tests/wan has one for that.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import time
from dataclasses import dataclass, field

CONTROL = "/tmp/wan.sock"
LISTEN: str | None = None
"""Every address of the container."""
CHUNK_BYTES = 65_536
QUEUE_S = 0.05
"""What a router's buffer would hold. Beyond it nothing is read, and TCP slows its sender down."""
IN_FLIGHT = 4_096
"""Chunks of one connection that are on their way: 256 MB, more than a second at 2 Gbit/s."""


@dataclass
class Link:
    """How the link is now."""

    rate_bytes_s: float
    delay_s: float
    is_up: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, wanted: dict[str, float | bool]) -> None:
        """Take over what is given: ``rate_mbit``, ``rtt_ms``, ``is_up``."""
        if rate_mbit := wanted.get("rate_mbit"):
            self.rate_bytes_s = rate_mbit * 1e6 / 8
        if (rtt_ms := wanted.get("rtt_ms")) is not None:
            self.delay_s = rtt_ms / 2e3
        if "is_up" in wanted:
            (self.is_up.set if wanted["is_up"] else self.is_up.clear)()


class Direction:
    """One way of the link, shared by all connections; decides when what enters has passed."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._free_s = 0.0

    def enter(self, size: int, now_s: float) -> float:
        """When ``size`` bytes that enter now arrive."""
        self._free_s = max(self._free_s, now_s) + size / self._link.rate_bytes_s
        return self._free_s + self._link.delay_s

    def wait_s(self, now_s: float) -> float:
        """How long to wait before anything else may enter."""
        return max(0.0, self._free_s - now_s - QUEUE_S)


async def carry(link: Link, way: Direction, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Move one direction of one connection until it ends or breaks."""
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)

    async def enter() -> None:
        data = b"-"
        while data:
            await link.is_up.wait()
            await asyncio.sleep(way.wait_s(time.monotonic()))
            data = await source.read(CHUNK_BYTES)
            await on_the_way.put((way.enter(len(data), time.monotonic()), data))

    async def leave() -> None:
        while True:
            arrives_s, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, arrives_s - time.monotonic()))
            await link.is_up.wait()
            if not data:
                target.write_eof()
                return
            target.write(data)
            await target.drain()

    async with asyncio.TaskGroup() as both:
        both.create_task(enter())
        both.create_task(leave())


async def serve(host: str, ports: list[int], link: Link) -> None:
    """Forward until the process is ended."""
    there, back = Direction(link), Direction(link)

    async def connect(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.closing(writer):
                await link.is_up.wait()
                far_reader, far_writer = await asyncio.open_connection(host, port)
                with contextlib.closing(far_writer):
                    async with asyncio.TaskGroup() as both:
                        both.create_task(carry(link, there, reader, far_writer))
                        both.create_task(carry(link, back, far_reader, writer))
        except* OSError:
            pass  # one end is gone, and the other hears of it by the end of its connection

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.change(json.loads(await reader.readline()))
        now = {"rate_mbit": link.rate_bytes_s * 8 / 1e6, "rtt_ms": link.delay_s * 2e3, "is_up": link.is_up.is_set()}
        writer.write(json.dumps(now).encode() + b"\n")
        writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(CONTROL)  # of a process that was killed
    servers = [await asyncio.start_unix_server(control, CONTROL)]
    for port in ports:
        servers.append(await asyncio.start_server(functools.partial(connect, port), LISTEN, port))
    print(f"forwards {', '.join(map(str, ports))} to {host}", flush=True)
    async with asyncio.TaskGroup() as all_of_them:
        for server in servers:
            all_of_them.create_task(server.serve_forever())


async def tell(wanted: dict[str, float | bool]) -> str:
    """Change the running link; returns how it is then."""
    reader, writer = await asyncio.open_unix_connection(CONTROL)
    writer.write(json.dumps(wanted).encode() + b"\n")
    with contextlib.closing(writer):
        return (await reader.readline()).decode().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="The wide-area link between the two sites.")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("host")
    serving.add_argument("ports", type=int, nargs="+")
    setting = commands.add_parser("set")
    for each, rate, rtt in ((serving, 1000.0, 30.0), (setting, None, None)):
        each.add_argument("--rate-mbit", type=float, default=rate)
        each.add_argument("--rtt-ms", type=float, default=rtt)
    setting.add_argument("--up", dest="is_up", action="store_true", default=None)
    setting.add_argument("--down", dest="is_up", action="store_false")
    options = vars(parser.parse_args())
    wanted = {key: options[key] for key in ("rate_mbit", "rtt_ms", "is_up") if options.get(key) is not None}
    if options["command"] == "set":
        print(asyncio.run(tell(wanted)))
        return
    link = Link(1.0, 0.0)
    link.change({**wanted, "is_up": True})
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options["host"], options["ports"], link))


if __name__ == "__main__":
    main()
