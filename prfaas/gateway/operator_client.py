"""Asking a running gateway, as the command line does. Needs the standard library only."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from prfaas.config import Config
from prfaas.errors import ConfigError, GatewayUnavailable, PrfaasError
from prfaas.gateway.operator_key import read_key

TIMEOUT_S = 30.0
"""A reload reads one file."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Metrics of a thousand engines are a tenth of it; more is another server's."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True)
class OperatorClient:
    """Asks one gateway, a connection a question.

    Attributes:
        base: its address, without a slash at the end.
        headers: the operators' key, if there is one.
        context: whom to believe over https.
    """

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None

    @classmethod
    def of(cls, config: Config | None = None, url: str | None = None, key_file: Path | None = None) -> "OperatorClient":
        """For the gateway of ``config``, or the one at ``url``, with the key of ``key_file`` or of ``config``.

        Raises:
            ConfigError: there is neither, or the key cannot be read, or would cross a network in plain text.
        """
        base, context = address(config, url)
        headers = {}
        if (key := _key(config, key_file)) is not None:
            check_secret(base, "the operators' key")
            headers["authorization"] = f"Bearer {key}"
        return cls(base, headers, context)

    def get(self, path: str, **query: str) -> Mapping[str, Any]:
        """The object at ``path``. Raises as ``post`` does."""
        return self._object(self._asked("GET", path, query=query))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Have something done.

        Raises:
            GatewayUnavailable: the gateway cannot be reached, or is none.
            PrfaasError: it refuses; its words.
            ConfigError: it refuses its configuration.
        """
        return self._object(self._asked("POST", path, b"" if body is None else json.dumps(body).encode()))

    def _asked(
        self, method: str, path: str, data: bytes | None = None, query: Mapping[str, str] | None = None
    ) -> bytes:
        target = self.base + quote(path) + (f"?{urlencode(query)}" if query else "")
        headers = {"content-type": "application/json", **self.headers} if data else dict(self.headers)
        request = urllib.request.Request(target, data=data, headers=headers, method=method)
        # Proxies of the environment are for the way out, not for the gateway.
        https = urllib.request.HTTPSHandler(context=self.context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https, _NoRedirects())
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                content: bytes = answer.read(MAX_ANSWER_BYTES)
                return content
        except urllib.error.HTTPError as error:
            raise _refusal(error, self.base) from None
        except (OSError, HTTPException) as error:
            raise self._unreachable(getattr(error, "reason", None) or error) from None

    def _object(self, content: bytes) -> Mapping[str, Any]:
        try:
            told = json.loads(content)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise GatewayUnavailable(f"{self.base} answers no JSON: is this a gateway of prfaas?")
        return told

    def _unreachable(self, why: object) -> GatewayUnavailable:
        return GatewayUnavailable(f"the gateway at {self.base} cannot be asked: {str(why) or type(why).__name__}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key is for the gateway alone, and a redirected POST would become a GET."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def address(config: Config | None, url: str | None) -> tuple[str, ssl.SSLContext]:
    """Where the gateway at ``url``, or else of ``config``, is, and whom to believe there. Raises ConfigError."""
    if url is not None:
        return checked_url(url), ssl.create_default_context()
    if config is None:
        raise ConfigError("which gateway? name its configuration with --config, or its address with --url")
    return url_of(config), _ours_alone(config)


def checked_url(url: str) -> str:
    """An address from the command line, without a slash at the end. Raises ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--url {url}: write it as http://host:port")
    return url.rstrip("/")


def is_near(base: str) -> bool:
    """Whether it is on this machine, by its address."""
    return urlsplit(base).hostname in LOOPBACK


def url_of(config: Config) -> str:
    """Where the gateway of this configuration is found from its own machine."""
    host = config.gateway.host
    shown = ANY_HOST.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{'https' if config.gateway.https else 'http'}://{shown}:{config.gateway.port}"


def _key(config: Config | None, key_file: Path | None) -> str | None:
    if key_file is not None:
        return read_key(key_file, "--key-file").decode("ascii")
    if config is not None and config.gateway.operator_key_file is not None:
        return read_key(Path(config.gateway.operator_key_file)).decode("ascii")
    return None


def check_secret(base: str, what: str) -> None:
    """Raises ConfigError where it would cross a network in plain text."""
    if urlsplit(base).scheme != "https" and not is_near(base):
        raise ConfigError(f"{base}: {what} would travel in plain text; give an https address with --url")


def _ours_alone(config: Config) -> ssl.SSLContext:
    """Believes the gateway's own certificate, whatever name or authority it has: it lies here. Raises ConfigError."""
    context = ssl.create_default_context()
    if (https := config.gateway.https) is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(https.cert)
        except OSError as error:  # SSLError is one
            raise ConfigError(f"gateway.https.cert: {https.cert}: cannot be used: {error.strerror or error}") from None
    return context


def _refusal(error: urllib.error.HTTPError, base: str) -> PrfaasError:
    try:
        told = json.load(error)["error"]
        message, code = str(told["message"]), told.get("code")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return PrfaasError(f"{base} answers {error.code}: is this a gateway of prfaas, of this version?")
    if code in ("invalid_api_key", "not_an_operator"):
        message += " The key's file: --key-file, or gateway.operator_key_file of --config."
    return ConfigError(message) if code == "config_refused" else PrfaasError(message)
