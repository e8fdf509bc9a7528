"""A wide-area link on one machine: two network namespaces with real kernel TCP, joined by two TUN devices.

    with Wan(rate_mbit=1000, rtt_ms=30) as wan:
        with wan.inside("cloud"):
            ...                       # sockets and child processes made here live at 10.77.0.1
        wan.set(loss=0.001)           # any time
        wan.down()

Needs root and /dev/net/tun, nothing else (no netem in the kernel).
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.wan.forward import MEMORY_BYTES, PipeCounters, PipeMemory, PipeSettings

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x4000_0000
PREFIX = "prfaas-wan"
ADDRESSES = {"cloud": "10.77.0.1", "edge": "10.77.0.2"}
"""Site -> address. The namespaces are private, so every WAN can use the same ones."""
ROOT = Path(__file__).parents[2]

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Why there can be no WAN here; empty when there can."""
    if os.geteuid() != 0:
        return "the WAN needs root, for network namespaces"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "the WAN needs /dev/net/tun"
    return "" if shutil.which("ip") else "the WAN needs the command ip (iproute2)"


class Wan:
    """The link, from entering to leaving the context. Both directions have the same settings.

    Args:
        rate_mbit: bottleneck of each direction.
        rtt_ms: round trip without queues.
        loss: share of packets lost at random in each direction.
        queue_ms: buffer of the bottleneck.
        mtu: largest packet; large ones keep the forwarders cheap.
    """

    def __init__(
        self, *, rate_mbit: float, rtt_ms: float, loss: float = 0.0, queue_ms: float = 50.0, mtu: int = 9000
    ) -> None:
        self._settings = PipeSettings(rate_mbit * 125_000, rtt_ms / 2e3, loss, queue_ms / 1e3)
        self._mtu = mtu
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> "Wan":
        with contextlib.ExitStack() as undo:
            _remove_left_over()
            memory_fd = os.memfd_create("wan")
            undo.callback(os.close, memory_fd)
            os.ftruncate(memory_fd, MEMORY_BYTES)
            memory = mmap.mmap(memory_fd, MEMORY_BYTES)
            self._pipes = [PipeMemory(memory, side) for side in (0, 1)]
            self._apply()
            tuns = [self._join(site, undo) for site in ADDRESSES]
            for side in (0, 1):
                self._start(tuns[side], tuns[1 - side], memory_fd, side, undo)
            self._undo = undo.pop_all()
        return self

    @property
    def rate_mbit(self) -> float:
        """The bottleneck now."""
        return self._settings.rate_bytes_s / 125_000

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def set(
        self,
        *,
        rate_mbit: float | None = None,
        rtt_ms: float | None = None,
        loss: float | None = None,
        queue_ms: float | None = None,
    ) -> None:
        """Change the link; packets on their way keep their time."""
        s = self._settings
        self._settings = replace(
            s,
            rate_bytes_s=s.rate_bytes_s if rate_mbit is None else rate_mbit * 125_000,
            delay_s=s.delay_s if rtt_ms is None else rtt_ms / 2e3,
            loss=s.loss if loss is None else loss,
            queue_s=s.queue_s if queue_ms is None else queue_ms / 1e3,
        )
        self._apply()

    def down(self) -> None:
        """Begin an outage: nothing enters the link any more."""
        self._settings = replace(self._settings, is_down=True)
        self._apply()

    def up(self) -> None:
        """End it."""
        self._settings = replace(self._settings, is_down=False)
        self._apply()

    def counters(self) -> dict[str, PipeCounters]:
        """What each site has sent."""
        return {site: pipe.counters() for site, pipe in zip(ADDRESSES, self._pipes, strict=True)}

    def command(self, site: str, *arguments: str) -> list[str]:
        """The command line that runs a command at a site."""
        return ["ip", "netns", "exec", _namespace(site), *arguments]

    @contextlib.contextmanager
    def inside(self, site: str) -> Iterator[None]:
        """Within the context this thread, and the processes that it starts, are at the site."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{_namespace(site)}", os.O_RDONLY)
        try:
            _enter_namespace(there)
            try:
                yield
            finally:
                _enter_namespace(home)
        finally:
            os.close(there)
            os.close(home)

    def _apply(self) -> None:
        for pipe in self._pipes:
            pipe.set(self._settings)

    def _join(self, site: str, undo: contextlib.ExitStack) -> int:
        """Make a site; return the descriptor with its packets."""
        device, namespace = f"pw{os.getpid()}{site[0]}", _namespace(site)
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        undo.callback(os.close, tun)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
        _ip("netns", "add", namespace)
        undo.callback(_ip, "netns", "del", namespace)
        _ip("link", "set", device, "netns", namespace)
        _ip("-n", namespace, "addr", "add", f"{ADDRESSES[site]}/24", "dev", device)
        _ip("-n", namespace, "link", "set", device, "mtu", str(self._mtu), "txqueuelen", "10000", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        return tun

    @staticmethod
    def _start(source: int, target: int, memory: int, side: int, undo: contextlib.ExitStack) -> None:
        arguments = [str(each) for each in (source, target, memory, side)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.wan.forward", *arguments], pass_fds=(source, target, memory), cwd=ROOT
        )
        undo.callback(process.wait)
        undo.callback(process.kill)


def _namespace(site: str) -> str:
    return f"{PREFIX}-{os.getpid()}-{site}"


def _remove_left_over() -> None:
    """Remove namespaces of processes that were killed."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        if not Path("/proc", path.name.split("-")[2]).exists():
            _ip("netns", "del", path.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _enter_namespace(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
