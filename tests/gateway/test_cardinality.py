"""Nothing that clients send makes a series of metrics."""

from tests.gateway.fakes import Stand, stand

KEY = "sk-0123456789abcdef"
TENANTS = {"acme": {"keys": [{"env": "ACME_KEY"}], "shares_cache": True}}
ROUNDS = 30


def series(running: Stand) -> int:
    """How many lines the exposition has that are no comments."""
    text = running.services.metrics.exposition().decode()
    return sum(1 for line in text.splitlines() if not line.startswith("#"))


async def flood(running: Stand, at: int) -> None:
    """Requests that are all wrong in another way, each with words of its own."""
    word = f"word{at}"
    chat = f"{running.url}/v1/chat/completions"
    body = {"model": "tiny", "messages": [{"role": "user", "content": f"hello {word}"}]}
    known = {"authorization": f"Bearer {KEY}"}
    for url, tree, headers in (
        (chat, body, {"authorization": f"Bearer {word}"}),
        (chat, {**body, "model": word}, known),
        (chat, body, {**known, "x-prfaas-priority": word}),
        (chat, {**body, word: word}, {**known, "x-request-id": word, "x-prfaas-first-token-slo-ms": word}),
        (chat, body, {**known, "x-request-id": word, "user-agent": word}),
        (f"{running.url}/v1/{word}", body, known),
        (f"{running.url}/{word}?{word}={word}", body, known),
    ):
        async with running.client.post(url, json=tree, headers=headers) as answer:
            await answer.read()
    async with running.client.request(word.upper(), chat, headers=known) as answer:
        await answer.read()


async def test_flood_of_names_makes_no_series() -> None:
    """Unknown keys, models, classes, paths, methods and ids: none of them adds series round by round."""
    async with stand(env={"ACME_KEY": KEY}, tenants=TENANTS) as running:
        await flood(running, 0)
        first = series(running)
        for at in range(1, ROUNDS):
            await flood(running, at)
        # Probes and measured speeds may add a few meanwhile; a name that became a label would add one every round.
        assert series(running) - first < ROUNDS - 1
        assert "word" not in running.services.metrics.exposition().decode()
