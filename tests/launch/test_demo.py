import io

from rich.console import Console

from prfaas.launch.demo.ask import Answer
from prfaas.launch.demo.compare import Comparison, compare, is_success, summarize
from prfaas.launch.demo.evidence import Evidence, read_evidence
from prfaas.launch.demo.questions import make_questions
from prfaas.launch.demo.show import comparison_table

LOCAL = Evidence(prompt_tokens=60, placement="local", outcome="local", cache_bytes=0, early_bytes=0)
REMOTE = Evidence(prompt_tokens=5_000, placement="remote", outcome="remote", cache_bytes=1_000, early_bytes=870)
RECOMPUTED = Evidence(prompt_tokens=5_000, placement="remote", outcome="recomputed", cache_bytes=300, early_bytes=300)

UNKNOWN = Evidence(prompt_tokens=5_000, placement="remote", outcome="unknown", cache_bytes=0, early_bytes=0)


def _answer(*tokens: str, shift: float = 0.0) -> Answer:
    logprobs = tuple(-0.5 + shift for _ in tokens)
    leads = tuple(0.1 * number for number, _ in enumerate(tokens, 1))
    return Answer(tokens, logprobs, leads, first_token_s=0.1, request_id="req-1")


def _comparison(evidence: Evidence, *, is_equal: bool = True) -> Comparison:
    return compare(True, _answer("a", "b"), _answer("a", "b" if is_equal else "c"), evidence)


def test_equal_tokens_with_their_largest_logprob_difference() -> None:
    """Equal answers are equal, and the largest difference of their logprobs is kept."""
    found = compare(True, _answer("a", "b"), _answer("a", "b", shift=0.25), REMOTE)
    assert (found.tokens_equal, found.logprob_diff) == (True, 0.25)


def test_differences_count_up_to_the_first_other_token() -> None:
    """After the first different token the contexts differ, so later logprobs say nothing."""
    one = Answer(("a", "b", "c"), (-0.1, -0.2, -0.3), (9, 9, 9), 0.1, "")
    other = Answer(("a", "x", "c"), (-0.2, -5.0, -9.0), (3, 0.002, 4), 0.1, "")
    found = compare(True, one, other, REMOTE)
    assert not found.tokens_equal
    assert abs(found.logprob_diff - 0.1) < 1e-9
    assert found.tie == 0.002


def test_a_shorter_answer_is_not_equal() -> None:
    """An answer that ends early is not exact although all its tokens agree."""
    assert not compare(True, _answer("a"), _answer("a", "b"), REMOTE).tokens_equal


def test_two_empty_answers_show_nothing() -> None:
    """Answers without any token do not count as equal."""
    assert not compare(True, _answer(), _answer(), REMOTE).tokens_equal


def test_summary_counts_used_bytes_only() -> None:
    """Bytes of a transfer that was recomputed are not part of the figures; one without a word is counted by itself."""
    summary = summarize([_comparison(LOCAL), _comparison(REMOTE), _comparison(RECOMPUTED), _comparison(UNKNOWN)], 512)
    assert summary == {
        "requests": 4,
        "long": 3,
        "remote": 1,
        "recomputed": 1,
        "unknown": 1,
        "exact": True,
        "ties": [],
        "max_logprob_diff": 0.0,
        "kv_bytes": 1_000,
        "early_share": 0.87,
    }


def test_success_needs_every_long_request_remote() -> None:
    """A recomputed long request is exact, and still no success."""
    assert is_success([_comparison(LOCAL), _comparison(REMOTE)], 512)
    assert not is_success([_comparison(LOCAL), _comparison(RECOMPUTED)], 512)


def test_success_needs_every_answer_exact() -> None:
    """One different token anywhere is no success."""
    assert not is_success([_comparison(LOCAL, is_equal=False), _comparison(REMOTE)], 512)


def test_success_needs_logprobs_within_rounding() -> None:
    """Equal tokens whose logprobs are further apart than rounding explains are no success."""
    near = compare(True, _answer("a", shift=0.2), _answer("a"), REMOTE)
    far = compare(True, _answer("a", shift=0.3), _answer("a"), REMOTE)
    assert is_success([near], 512)
    assert not is_success([near, far], 512)


def test_no_questions_are_no_success() -> None:
    """A demo that asked nothing has shown nothing."""
    assert not is_success([], 512)


def test_evidence_of_a_request_without_a_report() -> None:
    """A local decision has no transfer and so no bytes."""
    decision = {"prompt_tokens": 60, "placement": "local", "outcome": "local", "report": None}
    assert read_evidence(decision) == LOCAL


def test_questions_are_of_the_wanted_lengths_and_share_no_beginning() -> None:
    """Each length is asked streaming and plain; no question can be answered from another one's cache."""
    questions = make_questions((40, 300), seed=1)
    assert [(len(each.text), each.stream) for each in questions] == [(40, True), (40, False), (300, True), (300, False)]
    assert len({each.text[:12] for each in questions}) == 4


def test_questions_are_repeatable() -> None:
    """The same seed gives the same questions."""
    assert make_questions((300,), seed=1) == make_questions((300,), seed=1)


def test_table_fits_a_terminal_and_shows_what_happened() -> None:
    """Eighty columns are enough, no cell is cut, and a recomputed request is called that."""
    output = io.StringIO()
    Console(file=output, width=80).print(comparison_table([_comparison(each) for each in (LOCAL, REMOTE, RECOMPUTED)]))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in output.getvalue()
    assert [word for line in lines for word in ("local", "remote ", "recomputed") if f"stream  {word}" in line] == [
        "local",
        "remote ",
        "recomputed",
    ]
