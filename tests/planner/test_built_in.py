"""Profiles by name or file."""

from pathlib import Path

import pytest

from prfaas.errors import ConfigError
from prfaas.planner.built_in import built_in_profiles, find_profile


def test_every_built_in_profile_can_be_loaded() -> None:
    """The paper's two engines."""
    assert [find_profile(name).name for name in built_in_profiles()] == ["8 x H20", "8 x H200"]


def test_a_file_is_found_from_its_folder(tmp_path: Path) -> None:
    """And its errors name it."""
    (tmp_path / "mine.yaml").write_text("engine: mine")
    with pytest.raises(ConfigError, match=r"mine\.yaml: prefill"):
        find_profile("mine.yaml", tmp_path)


def test_a_wrong_name_lists_the_right_ones(tmp_path: Path) -> None:
    """With the path that was looked for."""
    with pytest.raises(ConfigError, match=r"paper_h21: no such file, .* paper_h20, paper_h200"):
        find_profile("paper_h21", tmp_path)
