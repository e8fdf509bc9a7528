"""``prfaas profile``: measures a running engine and writes a profile for the planner."""

import datetime
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prfaas import __version__
from prfaas.config import Config, EngineConfig, load_config, tls_settings
from prfaas.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from prfaas.measure.cache import Source
    from prfaas.measure.engine import Engine, EngineFacts
    from prfaas.measure.result import Result
    from prfaas.planner.layers import ModelCache

SHORTEST_TOKENS, LONGEST_TOKENS, GROWTH = 128, 131_072, 4
"""Of prompts when no lengths are given: few enough to measure, and close enough for straight lines between."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Numbers = Annotated[str, typer.Option(metavar="N,N,...")]


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


def profile(
    url: Annotated[str | None, typer.Option("--url", help="A running vLLM engine.", metavar="URL")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The YAML file, with --engine.", metavar="FILE")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Its name there; a linked decode engine measures its caches.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Its name in requests, if there are several.")] = None,
    model_config: Annotated[
        Path | None,
        typer.Option("--model-config", help="The model's config.json or folder, to compute its cache.", metavar="PATH"),
    ] = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", help="A gateway through which caches are measured.", metavar="URL")
    ] = None,
    lengths: Annotated[str | None, typer.Option(help="Of prompts, in tokens.", metavar="N,N,...")] = None,
    batches: Numbers = "1,2,4,8,16,32",
    decode: Annotated[bool, typer.Option(help="Without, only prefill and caches are measured.")] = True,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 5,
    steps: Annotated[int, typer.Option(min=8, max=4096, help="Of decode, a sample.")] = 64,
    context: Annotated[int, typer.Option(min=1, help="Prompt tokens before them.")] = 128,
    seed: Annotated[int, typer.Option(help="Of prompts and order.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE")] = Path("profile.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Of this kind of engine, in plans.")] = None,
    hardware: Annotated[str | None, typer.Option("--hardware", help="What it runs on, for the file.")] = None,
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", metavar="FILE")] = None,
) -> None:
    """Measure a running engine: prefill and cache by length, decode steps by batch.

    Example: prfaas profile --url http://127.0.0.1:8101 --lengths 512,2048,8192 --out h200.yaml

    The engine has to be idle: drain it first. Nothing is installed on it.
    """
    from rich.console import Console

    from prfaas.launch.signals import run_until_signal
    from prfaas.planner.profile_file import dump_profile

    if (url is None) == (config is None) or (config is None) != (engine is None):
        raise ConfigError("say which engine: either --url, or --config with --engine")
    _check_free(out, force)
    loaded = load_config(config, os.environ) if config else None
    asked = Asked(
        url=url or _configured(loaded, engine).url,
        config=loaded,
        engine=engine,
        model=model or (loaded.model.name if loaded else None),
        model_config=model_config or (Path(loaded.model.path) if loaded and Path(loaded.model.path).is_dir() else None),
        gateway=gateway,
        api_key=_read(api_key_file).strip() if api_key_file else None,
        lengths=lengths,
        batches=batches if decode else "",
        rounds=rounds,
        steps=steps,
        context=context,
        seed=seed,
        name=name or engine,
        hardware=hardware,
    )
    console = Console()

    async def run() -> int:
        found = await _measured(asked, console)
        _check_free(out, force)
        dump_profile(found.file, out)
        _show(found, out, console)
        return 0

    if code := run_until_signal(run):
        raise typer.Exit(code)


async def _measured(asked: Asked, console: "Console") -> "Result":
    from prfaas.clock import MonotonicClock
    from prfaas.measure.engine import Engine, session
    from prfaas.measure.progress import Bars
    from prfaas.measure.prompts import Prompts
    from prfaas.measure.result import Origin, result
    from prfaas.measure.run import Wish, measure

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
async def _source(asked: Asked, engine: "Engine") -> "AsyncIterator[Source | None]":
    """Who measures caches: a gateway if one is named, else a decode engine that is linked, else nobody."""
    from prfaas.measure.cache import Gateway, Pair

    if asked.gateway is not None:
        yield Gateway(engine.at(asked.gateway))
        return
    decode = _partner(asked.config, asked.engine)
    if asked.config is None or decode is None:
        yield None
        return
    import msgspec

    from prfaas.transport.report import ReportClient
    from prfaas.transport.settings import TlsSettings

    tls = tls_settings(asked.config, asked.config.gateway.site)
    reports = ReportClient(msgspec.convert(tls, TlsSettings) if tls else None)
    try:
        remote = _configured(asked.config, asked.engine).kv
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


def _configured(config: Config | None, name: str | None) -> EngineConfig:
    engines = config.engines if config else {}
    if name is None or name not in engines:
        raise ConfigError(f"--engine {name}: no such engine; there are: {', '.join(engines)}")
    return engines[name]


def _model_tree(path: Path | None, facts: "EngineFacts") -> dict[str, Any]:
    """The model's ``config.json``, empty where it is not on this machine. Raises ConfigError for a wrong path."""
    if path is None and not (Path(facts.root) / "config.json").is_file():
        return {}
    file = path or Path(facts.root)
    file = file / "config.json" if file.is_dir() else file
    try:
        tree = json.loads(_read(file))
    except ValueError as error:
        raise ConfigError(f"{file}: not a model's configuration: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: not a model's configuration: no mapping")
    return tree


def _computed(tree: dict[str, Any], facts: "EngineFacts") -> "tuple[ModelCache | None, str]":
    """The cache that the layers make, or why nothing is known of them."""
    from prfaas.planner.families import model_cache

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
    longest = min(LONGEST_TOKENS, (room or LONGEST_TOKENS) - 1)
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
    from prfaas.config import TlsConfig
    from prfaas.gateway.upstream import tls_context

    ours = config.sites[config.gateway.site].tls if config else None
    return {"ssl": tls_context(ours if isinstance(ours, TlsConfig) else None)}


def _this_machine(url: str) -> str:
    """A hint, only where the engine is on this machine."""
    if not any(f"//{host}:" in url for host in LOOPBACK):
        return "not said: give --hardware"
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"the machine with {os.cpu_count()} x {cpu}"


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise ConfigError(f"{out} exists: name another file with --out, or overwrite it with --force")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _show(found: "Result", out: Path, console: "Console") -> None:
    """The figures beside each other, then what is wrong, then the file."""
    from prfaas.measure.show import tables

    for table in tables(found.file):
        console.print(table)
    for caveat in found.file.caveats:
        style = "bold red" if caveat in found.warnings else ""
        prefix = "ERROR: " if caveat in found.warnings else "note: "
        console.print(prefix + caveat, style=style, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{out}: written", markup=False, highlight=False)
