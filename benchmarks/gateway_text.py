"""Prompts of the gateway's benchmark, and a tokenizer of the usual size and kind for them, both made here."""

import random
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from benchmarks.peers.gateways import KEY
from prfaas.engine.tiny.tokenizer import CHAT_TEMPLATE

VOCABULARY = 32_000
CORPUS_BYTES = 12_000_000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Contractions, words, single digits, punctuation, line ends, spaces: what current byte-level tokenizers split by.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LONG_CHARS = 1_000_000
"""Enough for 100,000 tokens of any text."""


def corpus() -> str:
    """Prose and programs: Python's own library, the same for the same version of Python."""
    parts: list[str] = []
    size_bytes = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        if size_bytes > CORPUS_BYTES or "site-packages" in path.parts:
            continue
        parts.append(path.read_text(encoding="utf-8", errors="ignore"))
        size_bytes += len(parts[-1])
    return "\n".join(parts)


def write_tokenizer(folder: Path, text: str) -> Tokenizer:
    """A byte-level BPE tokenizer trained on the corpus, with ChatML's template, as a model's folder has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(settings))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return tokenizer


class Prompts:
    """Requests made of the corpus with a fixed seed; no two begin alike."""

    def __init__(self, text: str, tokenizer: Tokenizer, seed: int) -> None:
        self._text = text
        self._words = text.split()
        self._tokenizer = tokenizer
        self._random = random.Random(seed)

    def words(self, count: int, requests: int) -> list[bytes]:
        """Requests with a prompt of so many words each."""
        return [request([user(self._words_of(count))]) for _ in range(requests)]

    def long(self, tokens: int) -> list[dict[str, str]]:
        """A conversation whose one message has so many tokens."""
        start = self._random.randrange(len(self._text) - LONG_CHARS)
        encoding = self._tokenizer.encode(self._text[start : start + LONG_CHARS], add_special_tokens=False)
        end = encoding.offsets[tokens - 1][1]
        return [user(self._text[start : start + end])]

    def next_turn(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """The conversation with an answer of 200 words and a question of 50."""
        answer = {"role": "assistant", "content": self._words_of(200)}
        return [*messages, answer, user(self._words_of(50))]

    def _words_of(self, count: int) -> str:
        start = self._random.randrange(len(self._words) - count)
        return " ".join(self._words[start : start + count])


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def request(messages: Sequence[Any]) -> bytes:
    """A whole HTTP request for a streamed chat answer."""
    body = msgspec.json.encode({"model": "tiny", "messages": messages, "stream": True, "max_tokens": 64})
    return b"\r\n".join([*_head(len(body)), b"", body])


def _head(size_bytes: int) -> Iterator[bytes]:
    yield b"POST /v1/chat/completions HTTP/1.1"
    yield b"host: 127.0.0.1"
    yield b"content-type: application/json"
    yield b"authorization: Bearer " + KEY.encode()
    yield b"content-length: %d" % size_bytes
