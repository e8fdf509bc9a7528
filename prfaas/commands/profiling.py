"""The wiring of ``prfaas profile``: from the command line to a measurement, with everything that it needs."""

import datetime
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from prfaas import __version__
from prfaas.clock import MonotonicClock
from prfaas.commands.options import read_text
from prfaas.config import Config, EngineConfig, TlsConfig, tls_settings
from prfaas.errors import ConfigError
from prfaas.gateway.upstream import tls_context
from prfaas.measure.cache import Gateway, Pair, Source
from prfaas.measure.engine import Engine, EngineFacts, session
from prfaas.measure.progress import Bars
from prfaas.measure.prompts import Prompts
from prfaas.measure.result import Origin, Result, result
from prfaas.measure.run import Wish, measure
from prfaas.planner.families import model_cache
from prfaas.planner.layers import ModelCache
from prfaas.transport.report import ReportClient
from prfaas.transport.settings import TlsSettings

SHORTEST_TOKENS, LONGEST_TOKENS, GROWTH = 128, 131_072, 4
"""Of prompts when no lengths are given: few enough to measure, and close enough for straight lines between."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line, as it was given."""

    url: str
    config: Config | None
    engine: str | None
    model: str | None
    model_config: Path | None
    gateway: str | None
    api_key: str | None
    lengths: str | None
    batches: str
    rounds: int
    steps: int
    context: int
    seed: int
    name: str | None
    hardware: str | None


async def measured_profile(asked: Asked, console: Console) -> Result:
    """Measure what was asked for, with bars on the console.

    Raises:
        ConfigError: it cannot be measured, with the option that is wrong.
        EngineUnavailable: the engine is busy, or went away.
    """
    async with session(asked.api_key, **_tls(asked.config)) as http:
        engine = Engine(http, asked.url, MonotonicClock())
        facts = await engine.facts(asked.model)
        tree = _model_tree(asked.model_config, facts)
        computed, reason = _computed(tree, facts)
        wish = Wish(
            lengths=_numbers("--lengths", asked.lengths) if asked.lengths else _default_lengths(facts.max_tokens),
            batches=_numbers("--batches", asked.batches) if asked.batches else (),
            rounds=asked.rounds,
            steps=asked.steps,
            context_tokens=asked.context,
        )
        if computed is None and asked.gateway is None and _partner(asked.config, asked.engine) is None:
            raise ConfigError(f"the size of caches cannot be told: {reason}")
        prompts = Prompts(asked.seed, _vocabulary(tree), run=uuid.uuid4().hex)
        bars = Bars(console)
        async with _source(asked, engine) as source:
            with bars.shown():
                measured = await measure(engine, facts, wish, prompts, source, computed is not None, bars)
    origin = Origin(
        name=asked.name or f"{facts.model} at {asked.url}",
        hardware=asked.hardware or _this_machine(asked.url),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        prfaas=__version__,
        seed=asked.seed,
        cannot_compute=reason,
    )
    return result(measured, wish, origin, computed)


@asynccontextmanager
async def _source(asked: Asked, engine: Engine) -> AsyncIterator[Source | None]:
    """Who measures caches: a gateway if one is named, else a decode engine that is linked, else nobody."""
    if asked.gateway is not None:
        yield Gateway(engine.at(asked.gateway))
        return
    decode = _partner(asked.config, asked.engine)
    if asked.config is None or decode is None:
        yield None
        return
    tls = tls_settings(asked.config, asked.config.gateway.site)
    reports = ReportClient(msgspec.convert(tls, TlsSettings) if tls else None)
    try:
        remote = configured(asked.config, asked.engine).kv
        yield Pair(engine, engine.at(decode.url), remote=remote, target=decode.kv, reports=reports)
    finally:
        await reports.aclose()


def _partner(config: Config | None, name: str | None) -> EngineConfig | None:
    """A decode engine that loads caches of this one."""
    if config is None or name is None or "prefill" not in config.engines[name].roles:
        return None
    decoding = config.engines_at(config.gateway.site, "decode").values()
    site = config.gateway.site
    dialed = {**config.linked_prefill_engines(site), **config.neighbour_prefill_engines(site)}
    return next(iter(decoding), None) if name in dialed else None


def configured(config: Config | None, name: str | None) -> EngineConfig:
    """The engine of this name. Raises ConfigError with those that there are."""
    engines = config.engines if config else {}
    if name is None or name not in engines:
        raise ConfigError(f"--engine {name}: no such engine; there are: {', '.join(engines)}")
    return engines[name]


def _model_tree(path: Path | None, facts: EngineFacts) -> dict[str, Any]:
    """The model's ``config.json``, empty where it is not on this machine. Raises ConfigError for a wrong path."""
    if path is None and not (Path(facts.root) / "config.json").is_file():
        return {}
    file = path or Path(facts.root)
    file = file / "config.json" if file.is_dir() else file
    try:
        tree = json.loads(read_text(file))
    except ValueError as error:
        raise ConfigError(f"{file}: not a model's configuration: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: not a model's configuration: no mapping")
    return tree


def _computed(tree: dict[str, Any], facts: EngineFacts) -> tuple[ModelCache | None, str]:
    """The cache that the layers make, or why nothing is known of them."""
    if not tree:
        return None, "the model's config.json is not on this machine: say where with --model-config"
    try:
        return model_cache(tree, facts.cache_types), ""
    except ConfigError as error:
        return None, str(error)


def _vocabulary(tree: dict[str, Any]) -> int | None:
    found = (tree.get("text_config") or tree).get("vocab_size")
    return found if isinstance(found, int) else None


def _default_lengths(room: int | None) -> tuple[int, ...]:
    longest = LONGEST_TOKENS if room is None else min(LONGEST_TOKENS, room - 1)
    lengths = [SHORTEST_TOKENS]
    while lengths[-1] * GROWTH <= longest:
        lengths.append(lengths[-1] * GROWTH)
    return tuple(lengths)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise ConfigError(f"{option} {text}: write whole numbers with commas between, such as 128,512,2048") from None


def _tls(config: Config | None) -> dict[str, Any]:
    """Whom to trust: the site's authority where the configuration has one, else the system's."""
    ours = config.sites[config.gateway.site].tls if config else None
    return {"ssl": tls_context(ours if isinstance(ours, TlsConfig) else None)}


def _this_machine(url: str) -> str:
    """A hint, only where the engine is on this machine."""
    if not any(f"//{host}:" in url for host in LOOPBACK):
        return "not said: give --hardware"
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"the machine with {os.cpu_count()} x {cpu}"
