"""How one mover is reached: its address, the certificates for it and its data connections."""

import grpc

from prfaas.errors import TransferFailed
from prfaas.transport.data_socket import DataConnection, connect
from prfaas.transport.grpc_options import CHANNEL_OPTIONS, explain
from prfaas.transport.grpc_stream import connect_grpc
from prfaas.transport.tls import KeyRing, Keys
from prfaas.wire.control import Welcome


class Dialer:
    """Dials ``address`` ("host:port"), in plain text only when there is no key ring."""

    def __init__(self, address: str, ring: KeyRing | None, *, over_grpc: bool = False) -> None:
        """With ``over_grpc`` the data connections are gRPC streams, too, on the one port of the address."""
        self.address = address
        self._ring = ring
        self._over_grpc = over_grpc

    @property
    def keys(self) -> Keys | None:
        """What the next handshake will use; another object after a renewal."""
        return self._ring.keys() if self._ring else None

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own, with the newest certificates.

        Raises:
            TransferFailed: nobody knows who has to answer there.
        """
        if self._ring is None:
            return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        name = self._ring.settings.name_at(self.address)
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name))
        return grpc.aio.secure_channel(self.address, self._ring.keys().channel_credentials, options=options)

    def check(self, welcome: Welcome) -> None:
        """Raise TransferFailed if the peer has no data connections of the kind that is dialed here."""
        if not welcome.data_port and not self._over_grpc:
            raise TransferFailed("it offers no frames over TCP: write 'transport: grpc' for the link here, too")

    def data_connection(self, welcome: Welcome, lease_s: float, connection: int) -> DataConnection:
        """Open a data connection of a session; a context manager, see ``data_socket.connect``."""
        if self._over_grpc:
            return connect_grpc(self.channel(), connection, welcome.session_token)
        host = self.address.rpartition(":")[0].strip("[]")
        tls = None if self._ring is None else (self._ring.keys().client, self._ring.settings.name_at(self.address))
        return connect(host, welcome.data_port, connection, welcome.session_token, tls, lease_s)

    def explain(self, error: BaseException) -> str:
        """One line on what went wrong with a call, and the way out where certificates are the reason."""
        text = explain(error)
        if self._ring is None or not isinstance(error, grpc.aio.AioRpcError):
            return text
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return (
                f"it does not admit the name in this site's tls.cert ({self._ring.settings.cert}): by its "
                "configuration this site has no link from there, or is not the gateway's"
            )
        return self._way_out(text) or text

    def _way_out(self, text: str) -> str:
        """gRPC's words for the handshakes that fail, in ours; empty for other failures."""
        if self._ring is None:
            return ""
        settings = self._ring.settings
        if "CERTIFICATE_VERIFY_FAILED" in text:
            reason = text.partition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
            return f"its certificate is not accepted ({reason}): it must be valid and signed by tls.ca ({settings.ca})"
        if "Hostname Verification" in text:
            name = settings.names.get(self.address)
            return f"whoever answers there has no certificate of {name}: does the address belong to another site?"
        if "WRONG_VERSION_NUMBER" in text:
            return "it does not speak TLS: write 'tls: off' for both sites, or for none"
        if "Socket closed" in text:
            return (
                f"it hung up during the handshake: it may not accept this site's tls.cert ({settings.cert}), which "
                "must be valid and signed by an authority that it trusts; its log says why"
            )
        return ""
