"""Guesses are of what was sent, bounded, and never more than a prompt has."""

import numpy as np

from prfaas.fleet.block_hash import ContentKeys, PromptHashes
from prfaas.fleet.guessed_prefixes import GUESS_TOKENS, GUESS_WAY, GuessedPrefixes
from prfaas.fleet.prompt_hasher import PromptHasher


def hashed(tokens: int, seed: int = 0, salt: str | None = None) -> PromptHashes:
    return PromptHasher().hash(np.array([seed, *range(tokens - 1)], np.uint32), ContentKeys(salt), [GUESS_WAY])


def test_what_was_sent_is_probably_there() -> None:
    guesses = GuessedPrefixes()
    guesses.sent("a", hashed(3 * GUESS_TOKENS + 5))
    assert guesses.hits("a", hashed(5 * GUESS_TOKENS)) == 3 * GUESS_TOKENS
    assert guesses.hits("a", hashed(3 * GUESS_TOKENS)) == 2 * GUESS_TOKENS
    assert guesses.hits("b", hashed(3 * GUESS_TOKENS)) == 0
    assert guesses.hits("a", hashed(3 * GUESS_TOKENS, seed=1)) == 0
    assert guesses.hits("a", hashed(3 * GUESS_TOKENS, salt="s")) == 0
    guesses.forget("a")
    assert guesses.hits("a", hashed(3 * GUESS_TOKENS)) == 0


def test_the_least_recently_sent_ends_are_forgotten_first() -> None:
    guesses = GuessedPrefixes(max_blocks=5)
    guesses.sent("a", hashed(3 * GUESS_TOKENS, seed=1))
    guesses.sent("a", hashed(4 * GUESS_TOKENS, seed=2))
    assert guesses.hits("a", hashed(9 * GUESS_TOKENS, seed=1)) == GUESS_TOKENS
    assert guesses.hits("a", hashed(9 * GUESS_TOKENS, seed=2)) == 4 * GUESS_TOKENS
