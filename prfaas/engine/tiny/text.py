"""The sample of English from which the models take which letter follows which."""

import torch

SAMPLE = (
    "When a long question comes in, the far site reads it first. While it reads, the cache that it makes is sent "
    "on in small pieces, layer after layer, so that the near site holds nearly all of it by the time the last word "
    "is read. Then the near site writes the answer, one token at a time, and nobody who waits for it can tell that "
    "two sites had a hand in it. Short questions stay where they are: to send them away would take longer than to "
    "read them here. If the line between the sites is slow or the far engine goes away, the near site reads the "
    "question itself; the answer is the same, only later. A cache has two kinds of state. Attention keeps a key "
    "and a value for each token, and so it grows with the prompt; a recurrent layer keeps one matrix that every "
    "token changes, and so it stays small but must match the count of tokens to the last one. What makes this work "
    "is that the second kind has become common: most layers of the newer models are recurrent, few are not, and "
    "what must cross the network has shrunk by a large factor. Nothing here is clever for its own sake. We "
    "measure, we write down what we found, and we keep the parts that a reader would understand without being "
    "told. "
)
"""Prose with the letter statistics of English; written for this file."""

ALPHABET: tuple[int, ...] = tuple(sorted(set(SAMPLE.encode())))
"""The bytes that a model writes, in the order of every table here."""

_PRIOR_COUNTS = 1.0
"""Weight of a byte's overall frequency against what was seen after one other byte."""

_REPEAT_COST = 2.0
"""Keeps greedy decoding from writing one doubled letter for ever."""


def successor_scores() -> tuple[torch.Tensor, torch.Tensor]:
    """Score the alphabet's bytes as the next one, from pair counts in ``SAMPLE``.

    Returns:
        ``common[j]``: log frequency of byte j. ``follows[i, j]``: log of how much likelier j is after i than elsewhere,
        less ``_REPEAT_COST`` for a byte after itself.
        Both float32, indexed as ``ALPHABET``.
    """
    codes = torch.tensor([ALPHABET.index(byte) for byte in SAMPLE.encode()])
    pairs = torch.zeros(len(ALPHABET), len(ALPHABET))
    pairs.index_put_((codes[:-1], codes[1:]), torch.ones(len(codes) - 1), accumulate=True)
    frequency = pairs.sum(dim=0) / pairs.sum()
    likelihood = (pairs + _PRIOR_COUNTS * frequency) / (pairs.sum(dim=1, keepdim=True) + _PRIOR_COUNTS)
    return frequency.log(), (likelihood / frequency).log() - _REPEAT_COST * torch.eye(len(ALPHABET))
