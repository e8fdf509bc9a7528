"""One engine that does both, step by step as vLLM schedules: each answer gets a token, then prompts fill the budget."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.planner.simulator.request import Arrival


@dataclass
class _Request:
    arrival: Arrival
    left_tokens: int
    first_token_s: float = 0.0
    made_tokens: int = 0


def means_s(
    arrivals: Sequence[Arrival], s_per_token: float, step_s: float, chunk_tokens: int, batch: int
) -> tuple[float, float]:
    """Mean seconds to the first token, and mean seconds between two tokens, as means over answers."""
    coming = deque(_Request(each, each.prompt_tokens) for each in arrivals)
    waiting, running, done, now_s = deque[_Request](), list[_Request](), list[tuple[float, float]](), 0.0
    while coming or waiting or running:
        if not waiting and not running:
            now_s = max(now_s, coming[0].arrival.at_s)
        while coming and coming[0].arrival.at_s <= now_s:
            waiting.append(coming.popleft())
        budget, prefilled = chunk_tokens, list[_Request]()
        decoding = list(running)
        while waiting and budget and len(decoding) + len(prefilled) < batch:
            taken = min(budget, waiting[0].left_tokens)
            waiting[0].left_tokens -= taken
            budget -= taken
            if waiting[0].left_tokens:
                break
            prefilled.append(waiting.popleft())
        now_s += s_per_token * (chunk_tokens - budget) + (step_s if decoding else 0.0)
        for each in prefilled:
            each.first_token_s = now_s
        for each in (*decoding, *prefilled):
            each.made_tokens += 1
            if each.made_tokens < each.arrival.output_tokens:
                continue
            pace_s = (now_s - each.first_token_s) / max(each.arrival.output_tokens - 1, 1)
            done.append((each.first_token_s - each.arrival.at_s, pace_s))
        running = [each for each in (*decoding, *prefilled) if each.made_tokens < each.arrival.output_tokens]
    return sum(first for first, _ in done) / len(done), sum(pace for _, pace in done) / len(done)
