"""Transfer parameters: the gateway's are understood, anybody else's cost only the transfer."""

from typing import Any

import pytest

from prfaas.engine.params import parse_transfer_params
from prfaas.errors import RemoteProtocolError

DECODE: dict[str, Any] = {"role": "decode", "transfer_id": "t", "secret": "hush", "timeout_s": 5, "remote": "host:1"}


def test_both_roles_are_read() -> None:
    """A decode side needs the address of the prefill side, a prefill side does not."""
    decode = parse_transfer_params({"prfaas": DECODE})
    prefill = parse_transfer_params({"prfaas": {**DECODE, "role": "prefill"}})
    assert decode is not None
    assert prefill is not None
    assert (decode.remote, prefill.remote) == ("host:1", "")


def test_other_requests_have_no_transfer() -> None:
    """Requests without our key are nobody's business."""
    assert parse_transfer_params(None) is None
    assert parse_transfer_params({"do_remote_prefill": True}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"role": "both"},
        {"transfer_id": ""},
        {"transfer_id": "x" * 129},
        {"secret": 7},
        {"timeout_s": 0},
        {"timeout_s": True},
        {"timeout_s": 1e9},
        {"remote": None},
    ],
    ids=str,
)
def test_malformed_parameters_are_named(change: dict[str, Any]) -> None:
    """Each malformed field is refused by name, and the secret is never part of the message."""
    with pytest.raises(RemoteProtocolError, match=f"prfaas.{next(iter(change))}") as caught:
        parse_transfer_params({"prfaas": DECODE | change})
    assert "hush" not in str(caught.value)


def test_parameters_that_are_no_object_are_refused() -> None:
    """A list in place of the object is an error, not a crash."""
    with pytest.raises(RemoteProtocolError, match="list"):
        parse_transfer_params({"prfaas": []})


def test_secrets_stay_out_of_repr() -> None:
    """Logging the parameters does not log the secret."""
    assert "hush" not in repr(parse_transfer_params({"prfaas": DECODE}))


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_place_in_a_trace_is_read(role: str) -> None:
    """By both sides; one that is wrong costs the trace, never the transfer."""
    place = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
    traced = parse_transfer_params({"prfaas": {**DECODE, "role": role, **place}})
    assert traced is not None
    assert traced.trace is not None
    assert traced.trace.fields() == place
    for wrong in ("00-wrong", 7, {"a": 1}, None):
        untraced = parse_transfer_params({"prfaas": {**DECODE, "role": role, "traceparent": wrong}})
        assert untraced is not None
        assert untraced.trace is None
