"""The blocks that loads may hold."""

from prfaas.engine.budget import GroupShape, LoadBudget

GROUPS = (GroupShape(16), GroupShape(16, max_blocks=3))


def test_groups_add_up_to_an_upper_bound() -> None:
    """Full attention grows with the length, windows and states stop growing."""
    budget = LoadBudget(GROUPS, limit_blocks=100)
    assert budget.blocks_for(1) == 2
    assert budget.blocks_for(160) == 10 + 3


def test_all_loads_together_stay_below_the_limit() -> None:
    """A load waits while the loads before it hold too much, and goes ahead once one has ended."""
    budget = LoadBudget(GROUPS, limit_blocks=30)
    budget.hold("a", 160)
    budget.hold("b", 160)
    assert not budget.fits_share(160)
    budget.release("a")
    assert budget.fits_share(160)
    budget.release("a")
    assert budget.held_blocks == 13


def test_blocks_that_running_prefills_need_are_not_given_away() -> None:
    """What half-computed local prompts still need is reserved, group by group."""
    budget = LoadBudget((GroupShape(16), GroupShape(16, max_blocks=3, max_prefill_blocks=5)), limit_blocks=100)
    assert budget.reserve([]) == 0
    assert budget.reserve([(160, 16)]) == (10 - 1) + (5 - 1 + 1)
    assert budget.reserve([(160, 96), (160, 16)]) == (10 - 6) + 1 + (10 - 1) + (5 - 1 + 1)


def test_a_load_that_never_fits_is_known_at_once() -> None:
    """A prompt larger than the share is not left waiting for its deadline."""
    assert not LoadBudget(GROUPS, limit_blocks=12).fits_ever(160)
    assert LoadBudget(GROUPS, limit_blocks=13).fits_ever(160)
