"""The local stack, left running."""

import asyncio
import json
from pathlib import Path

from rich.console import Console

from prfaas.clock import MonotonicClock
from prfaas.config import Config
from prfaas.launch.local import gateway_url, make_model, start_local
from prfaas.launch.progress import ConsoleProgress
from prfaas.launch.sole_use import sole_use
from prfaas.launch.stack import Stack


async def run_up(folder: Path, port: int) -> int:
    """Start the local stack with the gateway on ``port`` (another one if it is taken) and wait to be cancelled.

    Raises:
        FolderInUse: another stack runs in ``folder``.
        ProcessFailed: something did not start, or ended.
    """
    progress = ConsoleProgress(Console(stderr=True), MonotonicClock())
    with sole_use(folder):
        model = await make_model(folder / "models", folder / "logs", progress)
        async with Stack(folder / "logs", progress) as stack:
            config = await start_local(stack, progress, model, folder, gateway_port=port)
            print(how_to_use(config), flush=True)
            await stack.while_alive(asyncio.Event().wait())
    return 0


def how_to_use(config: Config) -> str:
    """What a person can do with the running stack."""
    url = gateway_url(config)
    message = {"role": "user", "content": "Hello"}
    body = json.dumps({"model": config.model.name, "max_tokens": 32, "messages": [message]})
    return (
        f"\nThe gateway is at {url}; prompts above {config.policy.threshold_tokens} tokens are prefilled remotely.\n\n"
        f"  curl -i --noproxy '*' {url}/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{body}'\n\n"
        f"What was decided, and why: {url}/prfaas/decisions\n"
        f"What the controller would change, and why (it only tells): {url}/prfaas/plan\nCtrl-C stops everything."
    )
