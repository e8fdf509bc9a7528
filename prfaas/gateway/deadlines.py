"""How long each stage of a request may take, of what is left until its deadline. Pure."""

from dataclasses import dataclass

REMOTE_SHARE = 2 / 3
"""Of the time left, for a prefill elsewhere and its transfer: a local engine that starts after it must still answer."""
REPORT_SHARE = 1 / 20
MAX_REPORT_S = 5.0
"""A load that runs into its timeout is reported a little after it; movers look several times a second."""


MISJUDGED = 10
"""Times its prediction a first token may take: answers that run beside, and what other gateways send, are not in it."""


@dataclass(frozen=True, slots=True)
class RemoteStage:
    """The time for one prefill elsewhere.

    Attributes:
        transfer_s: after this the decode engine gives its load up by itself, and recomputes.
        patience_s: after this, without a word of its mover and without output, the gateway gives the try up.
    """

    transfer_s: float
    patience_s: float


def remote_stage(left_s: float, remote_timeout_s: float) -> RemoteStage:
    """The stage's time when ``left_s`` (not negative) are left of the request's, and none may take longer than
    ``remote_timeout_s``."""
    transfer_s = min(remote_timeout_s, REMOTE_SHARE * left_s)
    return RemoteStage(transfer_s, transfer_s + min(MAX_REPORT_S, REPORT_SHARE * left_s))


def allowed_silence_s(patience_s: float, predicted_s: float | None, *, has_cache: bool) -> float | None:
    """How long a decode engine may be silent: from when it ``has_cache`` on, or from its sending where it prefills
    itself; then only within a prediction of that, and without one there is no telling: None."""
    if has_cache:
        return max(patience_s, MISJUDGED * (predicted_s or 0.0))
    return None if predicted_s is None else predicted_s + max(patience_s, MISJUDGED * predicted_s)
