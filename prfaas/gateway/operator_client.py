"""Asking a running gateway to do something, as the command line does. Needs the standard library only."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from prfaas.config import Config
from prfaas.errors import ConfigError, EngineUnavailable, PrfaasError
from prfaas.gateway.operator_key import read_key

TIMEOUT_S = 30.0
"""A reload reads one file."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def ask(config: Config, path: str, url: str | None = None) -> Mapping[str, Any]:
    """POST to the operators' API of the gateway of ``config``, or of the one at ``url``.

    Raises:
        EngineUnavailable: it cannot be reached.
        PrfaasError: it refuses; its words.
        ConfigError: the key cannot be read.
    """
    base = (url or url_of(config)).rstrip("/")
    headers = {"content-length": "0"}
    if config.gateway.operator_key_file is not None:
        _check_secret(base)
        headers["authorization"] = f"Bearer {read_key(Path(config.gateway.operator_key_file)).decode('ascii')}"
    request = urllib.request.Request(base + quote(path), data=b"", headers=headers, method="POST")
    # Proxies of the environment are for the way out, not for the gateway.
    ours = _ours_alone(config) if url is None else ssl.create_default_context()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ours))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            body: Mapping[str, Any] = json.load(answer)
            return body
    except urllib.error.HTTPError as error:
        raise _refusal(error) from None
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"the gateway at {base} cannot be asked: {error}") from None


def url_of(config: Config) -> str:
    """Where the gateway of this configuration is found from its own machine."""
    host = config.gateway.host
    shown = ANY_HOST.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{'https' if config.gateway.https else 'http'}://{shown}:{config.gateway.port}"


def _check_secret(base: str) -> None:
    """Raises ConfigError where the key would cross a network in plain text."""
    parts = urlsplit(base)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ConfigError(f"{base}: the operators' key would travel in plain text; give an https address with --url")


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


def _refusal(error: urllib.error.HTTPError) -> PrfaasError:
    try:
        told = json.load(error)["error"]
        message, code = str(told["message"]), told.get("code")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        message, code = f"the gateway answers {error.code}", None
    return ConfigError(message) if code == "config_refused" else PrfaasError(message)
