"""How many tokens an answer took, read from what passes by."""

import json
from typing import Any

USAGE = b'"usage":'
"""Begins the usage in answers of all APIs. Within a JSON string its quotes are escaped, so no text looks like it."""
MAX_USAGE_CHARS = 4096
"""A usage has a dozen numbers."""


class UsageMeter:
    """Sees every part of an answer and keeps the last two, for the usage is at the end. Costs a count for each part."""

    __slots__ = ("_before", "_events", "_last")

    def __init__(self) -> None:
        self._events = 0
        self._before = self._last = b""

    def note(self, part: bytes) -> None:
        """One part of the answer's body: a whole answer, or some events of a stream."""
        self._events += part.count(b"\n\n")
        self._before, self._last = self._last, part

    def used(self, prompt_tokens: int) -> tuple[int, int]:
        """Tokens of prompt and answer. Where the engine tells none, ``prompt_tokens`` and one for each event."""
        told = _usage(self._before + self._last)
        prompt = _first_number(told, "prompt_tokens", "input_tokens")
        answer = _first_number(told, "completion_tokens", "output_tokens")
        if prompt is None and answer is None:
            return prompt_tokens, self._events
        return prompt_tokens if prompt is None else prompt, answer or 0


def _usage(body: bytes) -> dict[str, Any]:
    """The last usage object in ``body``, empty when there is none."""
    decoder = json.JSONDecoder()
    end = len(body)
    while (start := body.rfind(USAGE, 0, end)) >= 0:
        text = body[start + len(USAGE) : start + MAX_USAGE_CHARS].decode("utf-8", "replace").lstrip()
        try:
            value, _ = decoder.raw_decode(text)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
        end = start
    return {}


def _first_number(usage: dict[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if type(usage.get(name)) is int and usage[name] >= 0), None)
