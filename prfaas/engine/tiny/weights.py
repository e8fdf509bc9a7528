"""Seeded weights whose logits are peaked, depend on everything the model has read, and hardly amplify rounding.

A randomly initialised model has nearly flat logits, and its layers amplify each other's rounding, so that the greedy
comparison of two runs compares noise. Here the residual stream has three parts:

* channel 0 is constant: every embedding holds 1 there and no layer writes to it. Reading matrices use it as a bias, and
  the head uses it for how common a byte is (and to rule out special tokens and what does not print);
* the byte channels hold the current byte, one channel for each in ``text.ALPHABET``, and nothing else. The head reads
  from them which byte usually follows;
* the state channels hold what attention, recurrent and dense layers add. The head reads them through a random matrix:
  they decide among the plausible successors. They are small, so that a norm passes the other channels on bit for bit
  whatever the layers before it have added: an ulp in one layer does not become noise in all later ones.
"""

import hashlib
import math

import torch

from prfaas.engine.tiny import text
from prfaas.engine.tiny.tokenizer import VOCABULARY_SIZE

HIDDEN = 128
"""Channels of the residual stream."""

HEAD_SCALE = 8.0
"""Inverse temperature of the head: puts the median gap of the two best logits well above one nat."""

STATE_SCALE = 1 / 32
"""RMS of the state channels, roughly, where the other channels have 1."""

STATE_READ = 1 / 8
"""How much less a layer reads of a state channel than of a byte channel, against noise again."""

STATE_WEIGHT = 1.0
"""Deviation of a token's score (before HEAD_SCALE) that the state brings; the byte's part is a log likelihood ratio."""

UNWRITTEN = -12.0
"""Score (before HEAD_SCALE) of all tokens outside the alphabet, end of sequence among them."""

STATE_CHANNELS = 64
BYTE_CHANNELS = HIDDEN - 1 - STATE_CHANNELS
BYTE = slice(1, 1 + BYTE_CHANNELS)
STATE = slice(1 + BYTE_CHANNELS, HIDDEN)
ALPHABET = torch.tensor(text.ALPHABET)


class Weights:
    """Makes the tensors of one checkpoint; each depends on the seed and its own name only."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.bfloat16) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._seed = seed
        self._dtype = dtype

    def put(self, name: str, value: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Store a tensor under its checkpoint name, by default in the model's dtype."""
        self.tensors[name] = value.to(dtype or self._dtype).contiguous()

    def constant(self, name: str, size: int, value: float) -> None:
        """A vector of one value, such as a norm's weight."""
        self.put(name, torch.full((size,), value))

    def random(self, name: str, *shape: int, std: float) -> None:
        """Independent normal entries."""
        self.put(name, self.normal(name, *shape) * std)

    def read(self, name: str, rows: int, gain: float = 1.0) -> None:
        """A projection ``[rows, HIDDEN]`` out of the normalised residual stream, with outputs of RMS about ``gain``."""
        matrix = self.normal(name, rows, HIDDEN) * (gain / math.sqrt(HIDDEN))
        matrix[:, STATE] *= STATE_READ
        self.put(name, matrix)

    def write(self, name: str, columns: int, gain: float) -> None:
        """A projection ``[HIDDEN, columns]`` into the state channels.

        Inputs of RMS 1 add ``gain`` times what the channels may hold.
        """
        matrix = torch.zeros(HIDDEN, columns)
        matrix[STATE] = self.normal(name, STATE_CHANNELS, columns) * (gain * STATE_SCALE / math.sqrt(columns))
        self.put(name, matrix)

    def embedding(self) -> torch.Tensor:
        """The embedding ``[VOCABULARY_SIZE, HIDDEN]`` in float32; its byte channels have RMS 1."""
        embedding = torch.zeros(VOCABULARY_SIZE, HIDDEN)
        embedding[:, 0] = 1.0
        embedding[:, BYTE] = self.normal("embedding", VOCABULARY_SIZE, BYTE_CHANNELS)
        embedding[ALPHABET, BYTE] = torch.eye(len(ALPHABET), BYTE_CHANNELS) * math.sqrt(BYTE_CHANNELS)
        return embedding

    def head(self) -> torch.Tensor:
        """The output projection ``[VOCABULARY_SIZE, HIDDEN]`` in float32."""
        common, follows = text.successor_scores()
        state = self.normal("head", len(ALPHABET), STATE_CHANNELS)
        head = torch.zeros(VOCABULARY_SIZE, HIDDEN)
        head[:, 0] = UNWRITTEN
        head[ALPHABET, 0] = common / 2  # in full, the most frequent bytes would win nearly always
        head[ALPHABET, 1 : 1 + len(ALPHABET)] = follows.T / math.sqrt(BYTE_CHANNELS)
        head[ALPHABET, STATE] = state * (STATE_WEIGHT / STATE_SCALE / math.sqrt(STATE_CHANNELS))
        return head * HEAD_SCALE

    def normal(self, name: str, *shape: int) -> torch.Tensor:
        """Standard normal entries in float32 that belong to this name; nothing is stored."""
        return torch.randn(*shape, generator=self._generator(name))

    def _generator(self, name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
