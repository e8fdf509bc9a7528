"""What the demo asks: short and long chats, each with a text of its own."""

import random
from dataclasses import dataclass

PROSE = (
    "the site sends its cache over a long link while the engine still reads and every block that arrives is checked "
    "against a sum before one token is drawn from it so that nobody can tell where the prompt was read"
)


@dataclass(frozen=True)
class Question:
    """One chat request.

    Attributes:
        text: the user's message; the demo's model has one token per byte.
        stream: whether the answer is asked for token by token.
    """

    text: str
    stream: bool


def make_questions(lengths: tuple[int, ...], seed: int) -> list[Question]:
    """One streaming and one plain question per length (in bytes); no two share a beginning that could be cached."""
    source = random.Random(seed)
    return [Question(_text(source, length), stream) for length in lengths for stream in (True, False)]


def _text(source: random.Random, length: int) -> str:
    words = PROSE.split()
    text = f"{source.getrandbits(48):012x}"
    while len(text) < length:
        text += f" {source.choice(words)}"
    return text[:length]
