"""Profile files: read, written, refused."""

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prfaas.errors import ConfigError
from prfaas.planner.curve import PiecewiseLinear, Quadratic
from prfaas.planner.profile_file import ProfileFile, dump_profile, load_profile, parse_profile

POINTS = {"points": [{"tokens": 1000, "seconds": 0.5}, {"tokens": 2000, "seconds": 1}]}
SIZE = {"size": {"bytes_per_token": 1000}}


def tree(**changes: Any) -> dict[str, Any]:
    return {"engine": "e", "prefill": POINTS, "cache": SIZE, "decode": [{"batch": 4, "step_s": 0.02}]} | changes


def test_points_and_formulas_become_curves() -> None:
    """Whole numbers pass as seconds; the default between points is a straight line."""
    profile = parse_profile(tree())
    assert profile.prefill == PiecewiseLinear((1000, 2000), (0.5, 1.0))
    assert profile.cache == Quadratic(0, 1000)
    assert profile.decode is not None
    assert profile.decode.batch == (4,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefil": POINTS}, "prefil: .*[Ee]xtra"),
        ({"prefill": {}}, "prefill: .*needs either points or a rate"),
        ({"prefill": POINTS | {"rate": {"s_per_token": 1e-4}}}, "needs either points or a rate"),
        ({"cache": {}}, "cache: .*needs either points or a size"),
        ({"prefill": {"points": [{"tokens": 1000, "seconds": "fast"}]}}, r"prefill\.points\.0\.seconds: 'fast'"),
        ({"prefill": {"points": [{"tokens": 1000, "ms": 4}]}}, r"prefill\.points\.0\.ms"),
        ({"prefill": {"points": [{"tokens": 1000, "seconds": -1}]}}, r"points\.0\.seconds: -1: .*greater than 0"),
        ({"prefill": {"points": [{"tokens": 1000, "seconds": float("nan")}]}}, r"points\.0\.seconds"),
        ({"prefill": {"points": [{"tokens": 1000, "seconds": 0.5}]}}, "1 point"),
        ({"prefill": POINTS | {"between": "cubic"}}, r"prefill\.between: 'cubic'"),
        ({"decode": []}, "decode"),
        ({"decode": [{"batch": 4, "step_s": 20}]}, "milliseconds"),
    ],
)
def test_wrong_keys_and_values_are_named(change: dict[str, Any], message: str) -> None:
    """With the path of the key, as in the configuration."""
    with pytest.raises(ConfigError, match=message):
        parse_profile(tree(**change))


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00", '"text"'])
def test_a_file_that_is_no_profile_is_named(text: str, tmp_path: Path) -> None:
    """Empty, a list, broken or a text: an error of ours with the file's name."""
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"profile\.yaml: "):
        load_profile(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """As is one that is not text."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(tmp_path / "none.yaml")


def test_json_is_read_too(tmp_path: Path) -> None:
    """It is YAML."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(tree(caveats=["made up"])))
    assert load_profile(path).caveats == ("made up",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The same profile comes back."""
    file = ProfileFile.model_validate(tree(model="m", source="here", caveats=["c"]))
    dump_profile(file, tmp_path / "profile.yaml")
    assert load_profile(tmp_path / "profile.yaml") == file.profile()


@pytest.mark.parametrize("name", ["paper_h200.yaml", "paper_h20.yaml"])
def test_the_papers_profiles_say_what_they_are(name: str) -> None:
    """Both have the paper's cache sizes, and caveats for what is derived or circular."""
    with as_file(files("prfaas.planner") / "data" / name) as path:
        profile = load_profile(path)
    sizes_mib = profile.cache.at(np.array([1024.0, 8192, 32_000, 130_000])) / (1 << 20)
    assert sizes_mib == pytest.approx([190.8, 308.9, 701.3, 2316.3], abs=0.11)
    assert any("derived" in each or "circular" in each for each in profile.caveats)
