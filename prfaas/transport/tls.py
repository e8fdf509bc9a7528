"""A site's certificate and key, read again when they change, as gRPC and the data sockets want them."""

import logging
import os
import ssl
import threading
from dataclasses import dataclass

import grpc

from prfaas.errors import ConfigError
from prfaas.transport.settings import TlsSettings

MAX_FILE_BYTES = 1 << 20
"""Of a certificate or key file; a chain takes some KiB."""
WAY_OUT = "make one with 'prfaas certs', or write 'tls: off' for a site whose caches may travel in plain text"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keys:
    """One consistent reading of the three files."""

    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes
    server: ssl.SSLContext
    client: ssl.SSLContext

    @property
    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a gRPC channel."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.cert_pem)

    @property
    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """For a gRPC server's next handshake."""
        return grpc.ssl_server_certificate_configuration([(self.key_pem, self.cert_pem)], self.ca_pem)


class KeyRing:
    """The files' newest usable content: each handshake asks for it, which costs three ``stat`` calls.

    Locked, because gRPC asks from a thread of its own.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """Read the files.

        Raises:
            ConfigError: one cannot be used; names the key, the file and the way out.
        """
        self.settings = settings
        self._lock = threading.Lock()
        self._stamp = self._seen()
        self._keys = read_keys(settings)

    def keys(self) -> Keys:
        """The files as they are, or as they last were usable: half a renewal must not stop the link."""
        with self._lock:
            stamp = self._seen()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = read_keys(self.settings)
                except ConfigError as error:
                    log.error("the certificates were not taken over, the earlier ones stay in use: %s", error)
                else:
                    log.info("the certificates were read again: %s, %s, %s", *self._paths())
            return self._keys

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server; each of its handshakes takes the newest keys and demands a certificate of the client."""
        served = self.keys()

        def newer() -> grpc.ServerCertificateConfiguration | None:  # None: the last one stays; the stubs forgot it
            nonlocal served
            if (keys := self.keys()) is served:
                return None
            served = keys
            return keys.server_configuration

        return grpc.dynamic_ssl_server_credentials(served.server_configuration, newer, True)  # type: ignore[arg-type]

    def _paths(self) -> tuple[str, str, str]:
        return self.settings.ca, self.settings.cert, self.settings.key

    def _seen(self) -> tuple[object, ...]:
        """Changes whenever a file does, also when it is put in the other's place."""
        return tuple(map(_stamp, self._paths()))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_keys(settings: TlsSettings) -> Keys:
    """One reading of the files. Raises ConfigError where one cannot be used."""
    ca_pem, cert_pem, key_pem = (_content(name, getattr(settings, name)) for name in ("ca", "cert", "key"))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, settings.ca)
        _load_certificate(context, settings)
    server.num_tickets = 0  # who resumes shows no certificate, so an expired one would last on
    return Keys(ca_pem, cert_pem, key_pem, server, client)


def _content(key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"tls.{key}: {path}: {error.strerror or error}: {WAY_OUT}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"tls.{key}: {path}: larger than {MAX_FILE_BYTES >> 20} MiB, so no certificate or key")
    return content


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"tls.ca: {path}: holds no certificate of an authority in PEM form: {WAY_OUT}") from None


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        context.load_cert_chain(settings.cert, settings.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"tls.key: {settings.key}: is not the key of {settings.cert}: give the pair") from None
        raise ConfigError(
            f"tls.cert, tls.key: {settings.cert}, {settings.key}: not a certificate and its key in PEM form, without "
            f"a password ({reason}): {WAY_OUT}"
        ) from None


def _no_password() -> str:
    """OpenSSL would ask on the terminal and stop the start."""
    raise ValueError("the key is protected by a password")
