"""A program that runs a stack of stubs until a signal, the way the command line does; driven by test_stack_signals."""

import asyncio
import sys
from pathlib import Path

from prfaas.launch.signals import run_until_signal
from prfaas.launch.stack import Stack
from tests.launch.stubs import PrintedProgress, stub_service
from tests.ports import free_port


async def _main(folder: Path, grace_s: float, options: list[str]) -> int:
    async with Stack(folder, PrintedProgress(), stop_grace_s=grace_s) as stack:
        await stack.start([stub_service(name, free_port(), *options) for name in ("one", "two")])
        await stack.start([stub_service("three", free_port())])
        print("all ready", flush=True)
        await stack.while_alive(asyncio.sleep(600))
    return 0


if __name__ == "__main__":
    folder, grace_s, options = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    sys.exit(run_until_signal(lambda: _main(folder, grace_s, options)))
