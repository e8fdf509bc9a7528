"""``prfaas profile``: measures a running engine and writes a profile for the planner."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prfaas.commands.options import AsJson, load, read_text
from prfaas.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from prfaas.measure.result import Result

Numbers = Annotated[str, typer.Option(metavar="N,N,...")]


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
    as_json: AsJson = False,
) -> None:
    """Measure a running engine: prefill and cache by length, decode steps by batch.

    Example: prfaas profile --url http://127.0.0.1:8101 --lengths 512,2048,8192 --out h200.yaml

    The engine has to be idle: drain it first. Nothing is installed on it.
    """
    from rich.console import Console

    from prfaas.commands.output import print_json
    from prfaas.commands.profiling import Asked, configured, measured_profile
    from prfaas.launch.signals import run_until_signal
    from prfaas.planner.profile_file import dump_profile

    if (url is None) == (config is None) or (config is None) != (engine is None):
        raise ConfigError("say which engine: either --url, or --config with --engine")
    _check_free(out, force)
    loaded = load(config) if config else None
    asked = Asked(
        url=url or configured(loaded, engine).url,
        config=loaded,
        engine=engine,
        model=model or (loaded.model.name if loaded else None),
        model_config=model_config or (Path(loaded.model.path) if loaded and Path(loaded.model.path).is_dir() else None),
        gateway=gateway,
        api_key=read_text(api_key_file).strip() if api_key_file else None,
        lengths=lengths,
        batches=batches if decode else "",
        rounds=rounds,
        steps=steps,
        context=context,
        seed=seed,
        name=name or engine,
        hardware=hardware,
    )
    console = Console(stderr=as_json)

    async def run() -> int:
        found = await measured_profile(asked, console)
        _check_free(out, force)
        dump_profile(found.file, out)
        if as_json:
            print_json({"file": str(out), "profile": found.file.model_dump(mode="json", exclude_none=True)})
        else:
            _show(found, out, console)
        return 0

    if code := run_until_signal(run):
        raise typer.Exit(code)


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise ConfigError(f"{out} exists: name another file with --out, or overwrite it with --force")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")


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
