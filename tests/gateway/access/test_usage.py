import json

import pytest

from prfaas.gateway.access.usage import UsageMeter


def used(*parts: bytes, prompt_tokens: int = 7) -> int:
    meter = UsageMeter()
    for part in parts:
        meter.note(part)
    return sum(meter.used(prompt_tokens))


def event(value: object) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


OPENAI = {
    "prompt_tokens": 20,
    "total_tokens": 25,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 3},
}
ANTHROPIC = {"input_tokens": 30, "output_tokens": 4}
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ((json.dumps({"choices": [], "usage": OPENAI, "prompt_logprobs": None}).encode(),), 25),
        ((json.dumps({"usage": ANTHROPIC}, separators=(",", ":")).encode(),), 34),
        ((json.dumps({"data": [[0.5] * 9], "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode(),), 9),
        ((event({"text": "a"}), event({"usage": OPENAI}), DONE), 25),
        ((event({"text": "a"}), event({"usage": OPENAI}) + DONE), 25),
        ((event({"usage": {**OPENAI, "completion_tokens": 1}}), event({"usage": OPENAI})), 25),
        (
            (b"event: message_delta\n" + event({"usage": {"output_tokens": 4}}), b"event: message_stop\n" + event({})),
            11,
        ),
    ],
)
def test_usage_is_what_the_engine_says(parts: tuple[bytes, ...], tokens: int) -> None:
    """Whole answers and streams, in the words of all APIs; the last word counts."""
    assert used(*parts) == tokens


@pytest.mark.parametrize(
    "usage", [b'"usage":null', b'"usage":{"prompt_tokens":-5}', b'"usage":{"prompt_tokens":true}', b'"usage":{"x']
)
def test_nonsense_is_no_usage(usage: bytes) -> None:
    """Then the expected prompt counts, and each event as a token."""
    assert used(b"data: {" + usage + b"}\n\n", DONE) == 9


def test_text_that_looks_like_usage_is_text() -> None:
    """A model that writes about its own usage does not change the bill."""
    text = json.dumps({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, separators=(",", ":"))
    assert used(event({"usage": OPENAI, "text": text})) == 25


def test_answers_are_told_apart_from_prompts() -> None:
    """What was made counts by itself: as told, or by events."""
    told, untold = UsageMeter(), UsageMeter()
    told.note(event({"usage": OPENAI}))
    untold.note(event({"text": "a"}) * 3)
    assert (told.used(7), untold.used(7)) == ((20, 5), (7, 3))


def test_stream_without_usage_is_counted_by_events() -> None:
    """One token for each event, however they come together, beside the expected prompt."""
    assert used(event({"text": "a"}) * 3, event({"text": "b"})) == 11
