"""Reading and writing a profile: a YAML or JSON file, checked as the configuration is.

engine: h200-x8
model: our-model
prefill:
  points: [{tokens: 1024, seconds: 0.44}, {tokens: 8192, seconds: 0.72}]
  between: quadratic                        # or linear, the default
  # or: rate: {fixed_s: 0.38, s_per_token: 4.3e-5, s_per_token2: 8.8e-11}
cache:
  points: [{tokens: 1024, bytes: 200048640}, {tokens: 8192, bytes: 323911680}]
  # or: size: {bytes_per_token: 17280, state_bytes: 182353920}
decode: [{batch: 20, step_s: 0.025}]        # may be left out
caveats: [what was not measured]
measured: {vllm: 0.32.0, seed: 0, rounds: 5}  # by what and how, for readers; `prfaas profile` writes it

A point may have a ``spread_s``, the width of the middle half of its samples, or of bytes a ``computed`` beside them.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prfaas.errors import ConfigError
from prfaas.planner.curve import Curve, Quadratic
from prfaas.planner.decode import DecodeProfile
from prfaas.planner.profile import Between, EngineProfile, cache_curve, prefill_curve

MAX_POINTS = 10_000
"""Of a sweep; a file with more is not a profile."""

Positive = Annotated[float, Field(gt=0)]
Bytes = Annotated[int | float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Tokens = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class PrefillPoint(_Section):
    tokens: Tokens
    seconds: Positive
    spread_s: NotNegative | None = None


class CachePoint(_Section):
    tokens: Tokens
    bytes: Bytes
    computed: Bytes | None = None


class DecodePoint(_Section):
    batch: Annotated[int, Field(ge=1)]
    step_s: Positive
    spread_s: NotNegative | None = None


class Rate(_Section):
    """As ``engines.*.prefill`` of the configuration."""

    fixed_s: NotNegative = 0
    s_per_token: Positive
    s_per_token2: NotNegative = 0


class Size(_Section):
    """As ``policy.cache`` of the configuration."""

    bytes_per_token: Positive
    state_bytes: NotNegative = 0


class PrefillSection(_Section):
    points: Annotated[list[PrefillPoint], Field(max_length=MAX_POINTS)] | None = None
    between: Between = "linear"
    rate: Rate | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.points is None) == (self.rate is None):
            raise ValueError("needs either points or a rate")
        return self

    def curve(self) -> Curve:
        if self.rate is not None:
            return Quadratic(self.rate.fixed_s, self.rate.s_per_token, self.rate.s_per_token2)
        points = self.points or []
        return prefill_curve([each.tokens for each in points], [each.seconds for each in points], self.between)


class CacheSection(_Section):
    points: Annotated[list[CachePoint], Field(max_length=MAX_POINTS)] | None = None
    between: Between = "linear"
    size: Size | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.points is None) == (self.size is None):
            raise ValueError("needs either points or a size")
        return self

    def curve(self) -> Curve:
        if self.size is not None:
            return Quadratic(self.size.state_bytes, self.size.bytes_per_token)
        points = self.points or []
        return cache_curve([each.tokens for each in points], [each.bytes for each in points], self.between)


class ProfileFile(_Section):
    """The file as a whole. ``model``, ``source`` and ``measured`` are for its readers; nothing is made of them."""

    engine: Text
    model: Text = "unnamed"
    source: Text | None = None
    prefill: PrefillSection
    cache: CacheSection
    decode: Annotated[list[DecodePoint], Field(min_length=1, max_length=MAX_POINTS)] | None = None
    caveats: Annotated[list[Text], Field(max_length=100)] = []
    measured: Annotated[dict[str, Text | int | float], Field(max_length=100)] | None = None

    def profile(self) -> EngineProfile:
        """The checked figures. Raises ConfigError for figures that cannot be right."""
        points = self.decode
        decode = DecodeProfile(tuple(p.batch for p in points), tuple(p.step_s for p in points)) if points else None
        return EngineProfile(self.engine, self.prefill.curve(), self.cache.curve(), decode, tuple(self.caveats))


def load_profile(path: str | Path) -> EngineProfile:
    """Read a profile. Raises ConfigError that names the file, the key and what is wrong."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML or JSON: {' '.join(str(error).split())}") from None
    try:
        return parse_profile(tree)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def parse_profile(tree: Any) -> EngineProfile:
    """Check a tree of plain values. Raises ConfigError with one line for each thing that is wrong."""
    try:
        file = ProfileFile.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_line(item["loc"], item["msg"], item["input"]) for item in error.errors())
        ) from None
    return file.profile()


def dump_profile(file: ProfileFile, path: str | Path) -> None:
    """Write a profile for ``load_profile``, whole or not at all; keys in the order of the page above.

    Raises:
        ConfigError: the file cannot be written.
    """
    tree = file.model_dump(exclude_none=True, exclude_defaults=True)
    target = Path(path)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            half = Path(scratch, target.name)
            half.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
            half.replace(target)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _line(location: tuple[str | int, ...], message: str, value: Any) -> str:
    shown = repr(value)
    reason = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, location)) or 'profile'}: {shown if len(shown) <= 60 else '...'}: {reason}"
