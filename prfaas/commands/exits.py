"""What exit codes mean, the same for every command."""

from collections.abc import Mapping

from prfaas.errors import ConfigError, GatewayUnavailable, PrfaasError

FINE, FAILED, WRONG_USE, NO_GATEWAY, INTERRUPTED = 0, 1, 2, 3, 130

MEANINGS: Mapping[int, str] = {
    FINE: "fine",
    FAILED: "refused or failed: the one line on stderr says why",
    WRONG_USE: "wrong options, or a configuration that cannot be used",
    NO_GATEWAY: "the gateway cannot be reached",
    INTERRUPTED: "interrupted by Ctrl-C (other signals: 128 and their number)",
}
EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items()) + "."


def exit_code_of(error: PrfaasError) -> int:
    """With which code an error of ours ends the command."""
    if isinstance(error, ConfigError):
        return WRONG_USE
    return NO_GATEWAY if isinstance(error, GatewayUnavailable) else FAILED
