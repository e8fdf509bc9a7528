"""What engines and the gateway say when they are asked, over HTTP and through their movers: what is read."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec

from prfaas.config import Config
from prfaas.errors import ConfigError, TransferFailed
from prfaas.transport.probe import Answer, NoAnswer, describe, dialer_to

ASK_S = 5.0
"""For one answer; an engine in a long step is late with it."""
MAX_ANSWER_BYTES = 1 << 20
"""Of an answer that is a version or a list of models."""


class Card(msgspec.Struct, frozen=True):
    """A model as an engine lists it; adapters have a parent."""

    id: str
    max_model_len: int | None = None
    parent: str | None = None


class _Version(msgspec.Struct):
    version: str


class _Models(msgspec.Struct):
    data: list[Card]


class _Info(msgspec.Struct):
    title: str


class _OpenApi(msgspec.Struct):
    info: _Info


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What an engine's HTTP API says.

    Attributes:
        problem: why it says nothing, else empty.
        is_refused: nobody listens there.
        is_tls: the reason is a certificate.
        is_late: a connection is made, and the answer does not come.
        vllm: version, empty if it is no vLLM.
        models: what it serves.
    """

    problem: str = ""
    is_refused: bool = False
    is_tls: bool = False
    is_late: bool = False
    vllm: str = ""
    models: tuple[Card, ...] = ()


@dataclass(frozen=True, slots=True)
class MoverAnswer:
    """What an engine's mover says.

    Attributes:
        answer: its description; None when it gave none.
        problem: why not, else empty.
        reason: which kind of problem (``NoAnswer``).
    """

    answer: Answer | None = None
    problem: str = ""
    reason: Literal["", "silent", "late", "identity", "old"] = ""


async def ask_http(url: str, tls: ssl.SSLContext | None) -> HttpAnswer:
    """Ask vLLM's API for its version and its models."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    connector = aiohttp.TCPConnector(ssl=tls or True)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            version = await _get(session, f"{url}/version")
            models = await _get(session, f"{url}/v1/models")
    except aiohttp.ClientConnectorCertificateError as error:
        return HttpAnswer(f"its certificate is not accepted: {error.certificate_error}", is_tls=True)
    except aiohttp.ClientSSLError as error:
        return HttpAnswer(f"no TLS: {error}", is_tls=True)
    except aiohttp.ClientConnectorError as error:
        is_refused = isinstance(error.os_error, ConnectionRefusedError)
        return HttpAnswer("nobody listens" if is_refused else str(error.os_error), is_refused=is_refused)
    except TimeoutError:
        return HttpAnswer(f"no answer within {ASK_S:g} s", is_late=True)
    except (aiohttp.ClientError, OSError) as error:
        return HttpAnswer(f"it does not answer as vLLM does ({type(error).__name__})")
    with contextlib.suppress(msgspec.MsgspecError):
        return HttpAnswer(
            vllm=msgspec.json.decode(version, type=_Version).version,
            models=tuple(msgspec.json.decode(models, type=_Models).data),
        )
    return HttpAnswer("it does not answer as vLLM does")


async def is_gateway(url: str) -> bool:
    """Whether a gateway of ours answers there, whatever its certificate says."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session:
            told = msgspec.json.decode(await _get(session, f"{url}/openapi.json", unchecked), type=_OpenApi)
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError):
        return False
    return told.info.title == "prfaas"


async def ask_mover(config: Config, site: str, engine: str) -> MoverAnswer:
    """Ask the mover of an engine, as one of ``site`` would."""
    try:
        dialer = dialer_to(config, site, engine)
        async with asyncio.timeout(ASK_S):
            return MoverAnswer(await describe(dialer))
    except NoAnswer as error:
        return MoverAnswer(problem=str(error), reason=error.reason)
    except (ConfigError, TransferFailed) as error:  # our certificates, or nobody knows who has to answer there
        return MoverAnswer(problem=str(error), reason="identity")
    except TimeoutError:
        return MoverAnswer(problem=f"no answer within {ASK_S:g} s", reason="late")


async def _get(session: aiohttp.ClientSession, url: str, ssl_context: ssl.SSLContext | None = None) -> bytes:
    async with session.get(url, allow_redirects=False, ssl=ssl_context or True) as response:
        return await response.content.read(MAX_ANSWER_BYTES) if response.status == 200 else b""
