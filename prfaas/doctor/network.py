"""Names and ports as this machine sees them: what is read. Every wait here is bounded by its caller."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

IP_MTU, IPV6_MTU = 14, 24
"""Options of a connected socket that tell the MTU of its path (Linux, linux/in.h and in6.h)."""
CONNECT_S = 5.0
"""Three lost SYNs of a path of a tenth of a second; beyond it the network is out."""

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding an address of another machine comes to."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What became of dialing a port.

    Attributes:
        problem: empty, or why there is no connection.
        is_refused: the machine is there, and nobody listens.
        mtu_bytes: what the kernel knows of the path, 0 when there is no connection.
        ip: the address that was reached, of those of the host; empty when there is no connection.
    """

    problem: str = ""
    is_refused: bool = False
    mtu_bytes: int = 0
    ip: str = ""


async def addresses(host: str) -> list[str]:
    """What a name is resolved to, in order; none when it is not."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # gaierror is an OSError; a label of more than 63 characters is no name
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_address(host: str) -> bool:
    """Whether it is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_here(ips: Iterable[str]) -> bool:
    """Whether one of the addresses is this machine's: it can be bound."""
    return any(not binding_error(ip, 0) for ip in ips)


def binding_error(ip: str, port: int) -> int:
    """The error number of listening there, 0 when that can be done. Nothing is left open."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections may linger
            sock.bind((ip, port))
            sock.listen(1)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def listening_error(ips: Iterable[str], port: int) -> int | None:
    """The error number of listening at those of the addresses that are of this machine, 0 where that can be done; None
    where none is: a name may have addresses of other machines, or of a family that is off here."""
    numbers = [number for number in (binding_error(ip, port) for ip in ips) if number not in NOT_HERE]
    return next(filter(None, numbers), 0) if numbers else None


async def reach(host: str, port: int) -> Reached:
    """Dial a port."""
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Reached(f"no answer within {CONNECT_S:g} s")
    except (OSError, UnicodeError) as error:
        is_refused = isinstance(error, ConnectionRefusedError)
        return Reached("nobody listens" if is_refused else getattr(error, "strerror", None) or str(error), is_refused)
    sock = writer.get_extra_info("socket")
    mtu_bytes, peer = _path_mtu(sock), writer.get_extra_info("peername")
    writer.close()
    with contextlib.suppress(OSError):  # the other end may have hung up
        await writer.wait_closed()
    return Reached(mtu_bytes=mtu_bytes, ip=peer[0] if peer else host)


def _path_mtu(sock: socket.socket) -> int:
    is_v6 = sock.family == socket.AF_INET6
    try:
        return sock.getsockopt(*((socket.IPPROTO_IPV6, IPV6_MTU) if is_v6 else (socket.IPPROTO_IP, IP_MTU)))
    except OSError:
        return 0
