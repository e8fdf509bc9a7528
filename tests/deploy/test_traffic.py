"""How ``deploy/verify`` learns what became of its questions."""

from pathlib import Path

from deploy.verifying.traffic import clients
from prfaas.launch.demo.evidence import fetch_evidence
from tests.gateway.wide import wide


async def test_records_are_read_with_the_operators_key(tmp_path: Path) -> None:
    """The local stack's gateway has one, and tells nobody else."""
    key = tmp_path / "key"
    key.write_text("a-long-enough-key\n")
    async with (
        wide(operator_key_file=str(key)) as running,
        clients(running.url, running.url, "a-long-enough-key") as ask_with,
        await running.chat(2) as answer,
    ):
        evidence = await fetch_evidence(ask_with.http, ask_with.gateway_url, answer.headers["x-request-id"])
    assert (evidence.placement, evidence.outcome) == ("local", "local")
