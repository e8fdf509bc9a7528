"""Peers that open a transfer before the engine knows it."""

from prfaas.wire.control import Open, Start
from prfaas.wire.doorway import MAX_WAITING, Doorway, secrets_equal


def test_only_the_right_secret_is_admitted() -> None:
    """A wrong secret neither enters nor takes the right one's place."""
    doorway: Doorway[str] = Doorway()
    doorway.wait("mallory", Open(1, "t", "guess", 0), 5.0)
    doorway.wait("alice", Open(1, "t", "secret", 0), 5.0)
    opener = doorway.admit("t", "secret")
    assert opener is not None
    assert opener.session == "alice"
    assert doorway.admit("t", "secret") is None


def test_an_empty_secret_never_matches() -> None:
    """Two sides that both forgot the secret do not trust each other."""
    assert not secrets_equal("", "")
    assert secrets_equal("s", "s")


def test_a_waiting_openers_start_is_kept() -> None:
    """Start may come before the engine's offer."""
    doorway: Doorway[str] = Doorway()
    assert not doorway.start("alice", Start(1, 0, 9))
    doorway.wait("alice", Open(1, "t", "secret", 0), 5.0)
    assert doorway.start("alice", Start(1, 0, 9))
    opener = doorway.admit("t", "secret")
    assert opener is not None
    assert opener.start == Start(1, 0, 9)


def test_openers_leave_by_themselves_or_by_time() -> None:
    """Giving up, the end of the session and the deadline all make room."""
    doorway: Doorway[str] = Doorway()
    for handle in (1, 2, 3):
        doorway.wait("alice", Open(handle, f"t{handle}", "s", 0), float(handle))
    doorway.leave("alice", 1)
    assert [opener.open.handle for opener in doorway.expired(2.0)] == [2]
    doorway.leave_all("alice")
    assert doorway.expired(99.0) == []


def test_the_doorway_is_bounded_per_session() -> None:
    """One peer cannot fill it for another."""
    doorway: Doorway[str] = Doorway()
    assert all(doorway.wait("mallory", Open(handle, "t", "s", 0), 5.0) for handle in range(MAX_WAITING))
    assert not doorway.wait("mallory", Open(MAX_WAITING, "t", "s", 0), 5.0)
    assert doorway.wait("alice", Open(1, "t", "s", 0), 5.0)
