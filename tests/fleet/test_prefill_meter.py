"""Busy periods: what ran together is counted together, and what is not known is not counted."""

from prfaas.fleet.prefill_meter import MAX_ENDED, Period, PrefillMeter, Work


def test_a_prompt_that_runs_alone_is_a_period() -> None:
    """The time before it does not count; what is cached costs attention only."""
    meter = PrefillMeter()
    meter.begin(7.0)
    assert meter.end(Work(300, cached=100), 9.0) == Period(300, 400**2 - 100**2, 2.0)
    meter.begin(50.0)
    assert meter.end(Work(10), 51.0) == Period(10, 100, 1.0)


def test_prompts_that_overlap_are_one_period() -> None:
    """From the first one's beginning to the last one's end, in whatever order they end."""
    meter = PrefillMeter()
    meter.begin(1.0)
    meter.begin(2.0)
    assert meter.end(Work(20), 3.0) is None
    meter.begin(3.5)
    assert meter.end(Work(300), 4.0) is None
    assert meter.end(Work(100), 5.0) == Period(420, 400 + 90_000 + 10_000, 4.0)


def test_what_failed_spoils_its_period_and_no_other() -> None:
    meter = PrefillMeter()
    meter.begin(1.0)
    meter.begin(1.0)
    assert meter.end(None, 2.0) is None
    assert meter.end(Work(5), 3.0) is None
    meter.begin(4.0)
    assert meter.end(Work(5), 5.0) == Period(5, 25, 1.0)
    meter.begin(6.0)
    meter.disturb()
    assert meter.end(Work(5), 7.0) is None
    meter.disturb()
    meter.begin(8.0)
    assert meter.end(Work(5), 9.0) == Period(5, 25, 1.0)


def test_an_engine_that_is_never_idle_is_measured() -> None:
    """One prompt of 100 tokens a second, the next one always there before: 100 tokens a second."""
    meter = PrefillMeter()
    meter.begin(0.0)
    periods = []
    for second in range(1, 4 * MAX_ENDED + 1):
        meter.begin(second - 0.5)
        periods.append(meter.end(Work(100), float(second)))
    found = [period for period in periods if period]
    assert [period.tokens / period.seconds for period in found] == [100.0] * 4
