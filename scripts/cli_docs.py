"""docs/cli.md, from the command line itself: `make cli-docs`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"

HEAD = """\
# The command line

Written by `make cli-docs` from the commands themselves; `prfaas COMMAND --help` says the same.

- **Which gateway.** `--config FILE` names its configuration (`PRFAAS_CONFIG`; `prfaas.yaml` where that is in the
  working folder), `--url URL` another address (`PRFAAS_URL`). The operators' key comes from the configuration or from
  `--key-file` (`PRFAAS_KEY_FILE`), and crosses a network over https alone.
- **Pipes.** What is drawn over on a terminal is shown once into a pipe, or again and again with `--watch`. There are no
  colours in a pipe, and none with `NO_COLOR`. Results go to stdout; progress, and errors in one line each, to stderr.
  Narrow terminals get fewer columns; `COLUMNS` sets the width of a pipe.
- **Programs.** `--json` prints one document (with `--watch` or `--follow` a line each), in seconds, bytes and tokens.
  Fields may be added.
- **Completion.** `prfaas --install-completion` for bash, zsh or fish; engines and sites complete from the
  configuration.

## Exit codes
| code | meaning |
|---|---|
"""


def reference() -> str:
    """The whole page."""
    sys.path.insert(0, str(ROOT))
    from prfaas.cli import app
    from prfaas.commands.exits import MEANINGS

    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in MEANINGS.items())
    parts = [HEAD, codes]
    for path, command in _commands(typer.main.get_command(app), ()):
        parts.append(_section(path, command))
    return "".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, in the order of the help."""
    groups = getattr(command, "commands", None)
    if groups is None:
        yield path, command
        return
    for name, each in groups.items():
        if not each.hidden:
            yield from _commands(each, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join(["prfaas", *path, *(_argument(each) for each in arguments), "[OPTIONS]" if options else ""])
    text = re.sub(r"^Example: (.+)$", r"Example: `\1`", command.help or "", flags=re.MULTILINE)
    rows = [(f"`{_argument(each)}`", each.help) for each in arguments] + [_option(each) for each in options]
    table = "".join(f"| {name} | {text} |\n" for name, text in rows)
    listed = f"\n| | |\n|---|---|\n{table}" if rows else ""
    return f"\n## `{' '.join(('prfaas', *path))}`\n```\n{usage.strip()}\n```\n{text.strip()}\n{listed}"


def _argument(each: Any) -> str:
    name = each.metavar or each.name.upper()
    return name if each.required else f"[{name}]"


def _option(each: Any) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
    value = "" if each.is_flag else f" `{each.metavar or each.bare_type().upper()}`"
    notes = []
    if each.required:
        notes.append("required")
    elif each.default not in (None, False, (), []) and not callable(each.default):
        notes.append(f"default `{each.default if each.default is not True else each.opts[0]}`")
    if each.envvar:
        notes.append(f"`{each.envvar}`")
    text = (each.help or "").rstrip()
    return names + value, text + (f" ({', '.join(notes)})" if notes else "")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: written")
