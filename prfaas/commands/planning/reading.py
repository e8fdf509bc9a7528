"""Reading a trace where somebody waits for it."""

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from prfaas.errors import ConfigError
from prfaas.planner.trace import read_trace
from prfaas.planner.trace_summary import BlockCache, TraceSummary, summarise

SHOWN_BYTES = 64 << 20
"""A file that is read within a second or two needs no bar."""


def summarise_file(path: Path, block_tokens: int, cache_blocks: int) -> TraceSummary:
    """What a trace amounts to; a long one's progress is shown on a terminal's stderr.

    Raises:
        ConfigError: as ``read_trace`` and ``summarise`` do.
    """
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    console = Console(stderr=True)
    columns = (TextColumn("reading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    is_shown = sys.stderr.isatty() and size_bytes >= SHOWN_BYTES
    with Progress(*columns, console=console, transient=True, disable=not is_shown) as progress:
        task = progress.add_task(path.name, total=size_bytes)

        def advance(count: int) -> None:
            progress.advance(task, count)

        requests = read_trace(path, block_tokens=block_tokens, on_bytes=advance)
        return summarise(requests, BlockCache(cache_blocks, block_tokens))
