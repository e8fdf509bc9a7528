"""From the command line to a measurement: the parts that decide."""

from pathlib import Path

import pytest

from prfaas.commands.profiling import _default_lengths, _numbers, _partner, configured
from prfaas.config import parse_config
from prfaas.errors import ConfigError
from prfaas.launch.local import local_tree

CONFIG = parse_config(local_tree(Path("model"), (8000, 8101, 7101, 8102, 7111)))


def test_the_engine_that_loads_caches_measures_them() -> None:
    """The decode engine behind the link from the prefill engine's site; nobody loads caches of the decode engine."""
    partner = _partner(CONFIG, "cloud-0")
    assert partner is not None
    assert partner.url == "http://127.0.0.1:8101"
    assert _partner(CONFIG, "edge-0") is None
    assert _partner(None, None) is None


def test_an_unknown_engine_is_told_with_the_known_ones() -> None:
    """With all names that there are."""
    assert configured(CONFIG, "edge-0").site == "edge"
    with pytest.raises(ConfigError, match=r"--engine edge-7: no such engine; there are: edge-0, cloud-0"):
        configured(CONFIG, "edge-7")


@pytest.mark.parametrize(
    ("room", "lengths"),
    [(None, (128, 512, 2048, 8192, 32768, 131_072)), (8193, (128, 512, 2048, 8192)), (8192, (128, 512, 2048))],
)
def test_lengths_without_any_given(room: int | None, lengths: tuple[int, ...]) -> None:
    """Four times as long each, as far as prompt and answer fit."""
    assert _default_lengths(room) == lengths


def test_numbers_are_sorted_and_each_once() -> None:
    """Whatever order they are written in."""
    assert _numbers("--lengths", "64, 8,64") == (8, 64)
