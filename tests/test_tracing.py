import pytest

from prfaas.tracing import MAX_TRACESTATE_CHARS, NO_SPAN, NO_TRACER, TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("given", "state", "read"),
    [
        (GIVEN, "a=1,b=2", TraceContext(GIVEN, "a=1,b=2")),
        (GIVEN, "", TraceContext(GIVEN)),
        (GIVEN, "x" * (MAX_TRACESTATE_CHARS + 1), TraceContext(GIVEN)),
        (GIVEN, "a=\r\nx-evil: 1", TraceContext(GIVEN)),
        (GIVEN, 7, TraceContext(GIVEN)),
        (f"cc-{TRACE}-{SPAN}-01-what the future brings", "", TraceContext(f"cc-{TRACE}-{SPAN}-01")),
        (f"{GIVEN}-more", "", None),
        (f"cc-{TRACE}-{SPAN}-01x", "", None),
        (f"ff-{TRACE}-{SPAN}-01", "", None),
        (f"00-{'0' * 32}-{SPAN}-01", "", None),
        (f"00-{TRACE}-{'0' * 16}-01", "", None),
        (GIVEN.upper(), "", None),
        (f"{GIVEN}\n", "", None),
        ("", "", None),
        (None, "a=1", None),
        ({"a": 1}, "", None),
    ],
)
def test_context_is_read_by_the_standard(given: object, state: object, read: TraceContext | None) -> None:
    """What is wrong is no context, and never an error; a wrong state alone is dropped."""
    assert TraceContext.parse(given, state) == read


def test_context_is_told_as_it_was_read() -> None:
    """Under the names of the headers, without a state where there is none."""
    assert TraceContext(GIVEN, "a=1").fields() == {"traceparent": GIVEN, "tracestate": "a=1"}
    assert TraceContext(GIVEN).fields() == {"traceparent": GIVEN}


def test_nothing_is_kept_where_nothing_is_traced() -> None:
    """All spans are the one that does nothing, whatever is noted of it, and errors pass through it."""
    span = NO_TRACER.span("request", TraceContext(GIVEN), kind="server", engine="edge-0")
    assert span is NO_SPAN
    span.note(status=200)
    with pytest.raises(ValueError, match="as it was"), span:
        raise ValueError("as it was")
    assert span.context is None


@pytest.mark.parametrize("given", ["a=1,b=2", "a=1, b=2", "tenant@system=x y", ",a=1,"])
def test_a_right_tracestate_is_kept(given: str) -> None:
    """As the standard writes it, spaces between members and empty ones included."""
    found = TraceContext.parse(GIVEN, given)
    assert found is not None
    assert found.tracestate == given


@pytest.mark.parametrize(
    "given", ["my words", "a=1,my words", "A=1", "a=1,a=2", ",".join(f"k{at}=1" for at in range(33))]
)
def test_a_wrong_tracestate_is_dropped_before_anybody_logs_it(given: str) -> None:
    """What is no member, a key that comes twice, too many of them."""
    found = TraceContext.parse(GIVEN, given)
    assert found is not None
    assert found.tracestate == ""
