"""``prfaas bench``: a bounded load against a running gateway."""

from pathlib import Path
from typing import Annotated

import typer

from prfaas.commands.options import AsJson, ConfigIfAny, GatewayUrl, config_if_any, read_text
from prfaas.errors import ConfigError

MAX_REQUESTS, MAX_CONCURRENCY, MAX_OUTPUT_TOKENS = 10_000, 256, 4_096
"""A look at a gateway, not a siege; more is the task of a load generator on machines of its own."""

Requests = Annotated[int, typer.Option("--requests", "-n", min=1, max=MAX_REQUESTS, help="How many in all.")]
Concurrency = Annotated[int, typer.Option("--concurrency", "-j", min=1, max=MAX_CONCURRENCY, help="At the same time.")]
PromptTokens = Annotated[
    str, typer.Option("--prompt-tokens", help="Lengths of prompts, which requests have in turn.", metavar="N,N,...")
]
OutputTokens = Annotated[int, typer.Option("--output-tokens", min=1, max=MAX_OUTPUT_TOKENS, help="Of each answer.")]
Mine = Annotated[
    bool,
    typer.Option("--mine", help="The gateway is mine to load: needed for one that is not on this machine."),
]


def bench(
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    requests: Requests = 32,
    concurrency: Concurrency = 4,
    prompt_tokens: PromptTokens = "128,4096",
    output_tokens: OutputTokens = 64,
    model: Annotated[str | None, typer.Option("--model", help="As in requests; the first one by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of prompts and their order.")] = 0,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=1, max=3600, help="Of one request.", metavar="SECONDS")
    ] = 600,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="The key of a tenant.", metavar="FILE")
    ] = None,
    mine: Mine = False,
    as_json: AsJson = False,
) -> None:
    """Send a bounded load to a running gateway and show its latencies by placement.

    Example: prfaas bench --config prfaas.yaml --prompt-tokens 128,8192 --requests 64

    Prompts are random tokens that no cache knows, sent to /v1/completions as streams. Any OpenAI-compatible server can
    be asked; only a gateway of prfaas tells placements. The exit code is 1 when a request failed.
    """
    from prfaas.commands.benching.load import Load, run_load
    from prfaas.commands.benching.report import report
    from prfaas.gateway.operator_client import address, check_secret, is_near
    from prfaas.launch.signals import run_until_signal

    base, context = address(config_if_any(config, url), url)
    if not (is_near(base) or mine):
        raise ConfigError(f"{base} is not on this machine: say --mine if it is yours to load")
    key = read_text(api_key_file).strip() if api_key_file else None
    if key is not None:
        check_secret(base, "the key")
    load = Load(base, model, _lengths(prompt_tokens), output_tokens, requests, concurrency, seed, timeout_s)

    async def run() -> int:
        return report(load, await run_load(load, context, key), as_json=as_json)

    if code := run_until_signal(run):
        raise typer.Exit(code)


def _lengths(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(int(each) for each in text.split(","))
    except ValueError:
        lengths = ()
    if not lengths or min(lengths) < 1:
        raise ConfigError(f"--prompt-tokens {text}: give lengths with commas between them, such as 128,4096")
    return lengths
