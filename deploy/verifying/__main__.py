"""From the first image to the last line."""

import argparse
import asyncio
import json
import os
import sys
from typing import Any

import aiohttp

from deploy.verifying.cold_start import idle_mib, start_seconds
from deploy.verifying.docker import Compose, DockerFailed, image_mb
from deploy.verifying.events import BACK_TIMEOUT_S, EVENTS, until_healthy
from deploy.verifying.images import IMAGES, build_images
from deploy.verifying.say import say
from deploy.verifying.traffic import PATIENCE_S, Traffic, clients, is_exact
from prfaas.clock import MonotonicClock
from prfaas.errors import EngineUnavailable
from prfaas.launch.demo.compare import Comparison, is_success
from prfaas.launch.demo.questions import make_questions
from prfaas.launch.demo.run import PROMPT_BYTES, SEED, Clients, ask_twice
from prfaas.launch.local import MODEL_NAME, THRESHOLD_TOKENS
from prfaas.launch.readiness import until_remote
from prfaas.launch.signals import run_until_signal

PROJECT = "prfaas-verify"
PORTS = {"PRFAAS_PORT": "18000", "PRFAAS_EDGE_PORT": "18101"}
"""Not those of a stack that somebody looks at meanwhile."""
GATEWAY_URL = f"http://127.0.0.1:{PORTS['PRFAAS_PORT']}"
EDGE_URL = f"http://127.0.0.1:{PORTS['PRFAAS_EDGE_PORT']}"


async def verify(compose: Compose, events: list[str], result: dict[str, Any]) -> None:
    """Bring the stack up and put it through everything; fills in ``result`` as it goes."""
    say("starting the stack: setup, model, engines, gateway")
    await asyncio.to_thread(compose, "up", "-d", "--no-build", timeout_s=900)
    await until_healthy(compose, "wan", "gateway", "edge-0", "cloud-0")
    await _until_linked()
    result["cold_start_s"] = await start_seconds(compose, GATEWAY_URL)
    result["idle_mib"] = await idle_mib(compose)
    say(f"gateway: answers {result['cold_start_s']} s after its start, {result['idle_mib']} MiB while idle")
    await _until_linked()
    async with clients(GATEWAY_URL, EDGE_URL, await asyncio.to_thread(compose.operator_key)) as ask_with:
        compared = await _ask_everything(ask_with)
        result["exact"] = is_success(compared, THRESHOLD_TOKENS)
        say(f"{len(compared)} questions asked twice, {sum(each.is_remote for each in compared)} of them remote")
        traffic = Traffic(ask_with)
        try:
            await _break_things(compose, traffic, events, result)
        finally:
            answers = traffic.answers
            result["failed_requests"] = len(traffic.failed)
            result["requests"] = len(compared) + len(answers) + len(traffic.failed)
            result["remote"] = sum(each.is_remote for each in (*compared, *answers))
            result["exact"] = result["exact"] and all(map(is_exact, answers))
            result["ties"] = [round(each.tie, 4) for each in answers if each.tie is not None]


async def _break_things(compose: Compose, traffic: Traffic, events: list[str], result: dict[str, Any]) -> None:
    async with traffic.running():
        for name in events:
            say(f"{name}: begins")
            before = len(traffic.failed)
            await EVENTS[name](compose, traffic)
            result["events"][name] = len(traffic.failed) == before
            say(f"{name}: over, {len(traffic.failed) - before} requests failed")
    result["survived"] = all(result["events"].get(name) for name in EVENTS)


async def _ask_everything(ask_with: Clients) -> list[Comparison]:
    return [await ask_twice(ask_with, each, PATIENCE_S) for each in make_questions(PROMPT_BYTES, SEED)]


async def _until_linked() -> None:
    body = {"model": MODEL_NAME, "prompt": "warm up " * THRESHOLD_TOKENS, "max_tokens": 4}
    clock = MonotonicClock()
    started_s = clock.now_s()
    async with asyncio.timeout(BACK_TIMEOUT_S), aiohttp.ClientSession() as http:
        while True:
            try:
                await until_remote(http, f"{GATEWAY_URL}/v1/completions", body)
                break
            except (RuntimeError, aiohttp.ClientError):  # the gateway has not found its engines yet
                await asyncio.sleep(0.5)
    say(f"a long prompt was prefilled in the cloud after {clock.now_s() - started_s:.1f} s")


async def main(options: argparse.Namespace) -> int:
    """Returns the exit code; prints the line of JSON whatever happens."""
    os.environ.update(PORTS)  # compose reads them
    result: dict[str, Any] = {
        "exact": False,
        "survived": False,
        "failed_requests": None,
        "image_mb": {},
        "events": {},
        "not_run": ["prometheus", "grafana"],
    }
    compose = None
    try:
        compose = Compose.found(PROJECT)
        result["compose"] = " ".join(compose.command)
        result["image_mb"] = (
            {target: image_mb(image) for target, image in IMAGES.items()} if options.no_build else build_images()
        )
        await verify(compose, options.events, result)
    except (DockerFailed, EngineUnavailable, TimeoutError, ExceptionGroup) as error:
        say(f"FAILED: {type(error).__name__}: {error}")
        if compose:
            say(f"the containers' logs are in {compose.logs()}")
    finally:
        if compose and result["failed_requests"]:
            say(f"the containers' logs are in {compose.logs()}")
        if compose and not options.keep:
            say("taking everything down")
            compose("down", "--volumes", "--remove-orphans", "--timeout", "10")
        print(json.dumps(result), flush=True)
    is_well = result["exact"] and result["survived"] and result["failed_requests"] == 0
    return 0 if is_well else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/verify", description="Run the containers of deploy/local for real.")
    parser.add_argument("--no-build", action="store_true", help="take the images that are there")
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    parser.add_argument("--events", nargs="*", choices=EVENTS, default=list(EVENTS), help="what is broken (all)")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    sys.exit(run_until_signal(lambda: main(options)))
