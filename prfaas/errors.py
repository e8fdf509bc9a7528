"""One root for every error that prfaas raises on purpose.

    PrfaasError
    ├── ConfigError          the operator's: a key, its value and the way out
    ├── RequestRejected      the client's: an OpenAI-shaped answer with a status
    ├── ProtocolError        the wire
    │   ├── LocalProtocolError    we called it wrongly (a bug of ours)
    │   └── RemoteProtocolError   the peer broke the rules
    ├── TransferFailed       a remote prefill that has to be recomputed here
    ├── EngineUnavailable    an engine that cannot be reached or has stopped
    └── GatewayUnavailable   a gateway that cannot be reached

Foreign exceptions (sockets, gRPC, HTTP clients) are mapped to these once, at the seam where they appear.
"""


class PrfaasError(Exception):
    """Root of all errors raised by prfaas."""


class ConfigError(PrfaasError):
    """A configuration that cannot be used; the message names the key, the value and the way out."""


class RequestRejected(PrfaasError):
    """A request that is answered with an error before any engine has seen it.

    Args:
        status: HTTP status code.
        message: text for the client; never contains the prompt.
        kind: OpenAI's ``error.type``, for example ``invalid_request_error``.
        param: the offending request field, if there is one.
        code: OpenAI's ``error.code``, if there is one.
        retry_after_s: when to try again, if that will help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class ProtocolError(PrfaasError):
    """Root of the transfer protocol's errors."""


class LocalProtocolError(ProtocolError):
    """The protocol objects were used in a way their rules forbid: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol forbids."""


class TransferFailed(PrfaasError):
    """A transfer that did not complete; the request is recomputed locally."""


class EngineUnavailable(PrfaasError):
    """An engine that refuses, cannot be reached or went away."""


class GatewayUnavailable(PrfaasError):
    """A gateway that cannot be reached, or does not answer in time."""
