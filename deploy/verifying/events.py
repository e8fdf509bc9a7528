"""What is broken, one after the other, while questions are asked, and what has to be seen each time."""

import asyncio
from collections.abc import Awaitable, Callable

from deploy.verifying.docker import Compose, DockerFailed
from deploy.verifying.say import say
from deploy.verifying.traffic import Traffic
from prfaas.launch.local import THRESHOLD_TOKENS

START_TIMEOUT_S = 900
"""An engine imports torch and vLLM and loads its model: one minute on a laptop, eight on one with a load of 30."""
BACK_TIMEOUT_S = 180
"""Until long prompts are prefilled remotely again: breakers rest for at most 60 s, and then one request tries."""
CUT_S = 15
"""Longer than the transfers' lease of 10 s."""
POLL_S = 0.5


async def until_healthy(compose: Compose, *services: str) -> None:
    """Wait for Docker's word. Raises TimeoutError, or DockerFailed when a container ends."""
    async with asyncio.timeout(START_TIMEOUT_S):
        for service in services:
            while (health := await asyncio.to_thread(compose.health, service)) != "healthy":
                if health in ("exited", "dead"):
                    raise DockerFailed(f"{service} has ended")
                await asyncio.sleep(POLL_S)
            say(f"{service} is healthy")


async def kill_cloud(compose: Compose, traffic: Traffic) -> None:
    """The cloud site's engine dies; long prompts go on at the edge; it comes back."""
    await asyncio.to_thread(compose, "kill", "cloud-0")
    await traffic.until_long_local(4, THRESHOLD_TOKENS, BACK_TIMEOUT_S)
    say("long prompts are served at the edge alone; the cloud comes back")
    await asyncio.to_thread(compose, "start", "cloud-0")
    await until_healthy(compose, "cloud-0")
    await traffic.until(2, "remote", BACK_TIMEOUT_S)


async def throttle(compose: Compose, traffic: Traffic) -> None:
    """The link becomes fifty times slower and three times longer, and then as before."""
    say(await asyncio.to_thread(compose.wan, "--rate-mbit", "20", "--rtt-ms", "100"))
    await traffic.until(3, "remote", BACK_TIMEOUT_S)
    await asyncio.to_thread(compose.wan, "--rate-mbit", "1000", "--rtt-ms", "30")
    await traffic.until(2, "remote", BACK_TIMEOUT_S)


async def cut(compose: Compose, traffic: Traffic) -> None:
    """Nothing passes between the sites for longer than a lease."""
    await asyncio.to_thread(compose.wan, "--down")
    await asyncio.sleep(CUT_S)
    await traffic.until_long_local(2, THRESHOLD_TOKENS, BACK_TIMEOUT_S)
    say("long prompts are served at the edge alone; the link comes back")
    await asyncio.to_thread(compose.wan, "--up")
    await traffic.until(2, "remote", BACK_TIMEOUT_S)


async def upgrade(compose: Compose, traffic: Traffic) -> None:
    """The cloud's engine is drained, its container replaced by a new one, and given requests again."""
    prfaas = ("prfaas", "{}", "cloud-0", "--config", "/etc/prfaas/prfaas.yaml")
    drain, undrain = ([word.format(verb) for word in prfaas] for verb in ("drain", "undrain"))
    async with asyncio.timeout(BACK_TIMEOUT_S):
        # Another process has no event to wait for.
        while "drained" not in (told := await asyncio.to_thread(compose.execute, "gateway", *drain)):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
    say(told.strip())
    await asyncio.to_thread(compose, "up", "-d", "--no-deps", "--force-recreate", "cloud-0")
    await until_healthy(compose, "cloud-0")
    say((await asyncio.to_thread(compose.execute, "gateway", *undrain)).strip())
    await traffic.until(2, "remote", BACK_TIMEOUT_S)


EVENTS: dict[str, Callable[[Compose, Traffic], Awaitable[None]]] = {
    "kill": kill_cloud,
    "throttle": throttle,
    "cut": cut,
    "upgrade": upgrade,
}
