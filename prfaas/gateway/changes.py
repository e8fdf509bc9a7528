"""What a new configuration changes in a running gateway. Pure."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from prfaas.config import Config, EngineConfig
from prfaas.config.base import Section
from prfaas.errors import ConfigError

FOLLOWED = frozenset({"controller", "engines", "links", "policy", "sites", "tenants"})
"""The sections that a running gateway follows; the others are what it was started with."""
FOLLOWED_KEYS = frozenset({"model.adapters"})
"""Keys that it follows in the other sections."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Engines by name, in the order of their configuration.

    Attributes:
        moved: those whose address or site is another one: nothing known of them holds any more.
        adjusted: those that stay where they are with another role, limit or speed.
        other: sections besides ``engines``, and keys of sections that are not followed, in which something changed.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def __str__(self) -> str:
        changed = (*self.adjusted, *self.other)
        parts = {"added": self.added, "removed": self.removed, "moved": self.moved, "changed": changed}
        return "; ".join(f"{word} {', '.join(names)}" for word, names in parts.items() if names) or "nothing changed"


def changes_between(old: Config, new: Config) -> Changes:
    """What has to be followed.

    Raises:
        ConfigError: something changed that needs a restart; one line names each key.
    """
    if keys := list(_needing_restart(old, new)):
        raise ConfigError("\n".join(f"{key}: changed, which needs a restart: undo it, or restart" for key in keys))
    both = [name for name in new.engines if name in old.engines and new.engines[name] != old.engines[name]]
    return Changes(
        added=tuple(name for name in new.engines if name not in old.engines),
        removed=tuple(name for name in old.engines if name not in new.engines),
        moved=tuple(name for name in both if _place(old.engines[name]) != _place(new.engines[name])),
        adjusted=tuple(name for name in both if _place(old.engines[name]) == _place(new.engines[name])),
        other=tuple(key for key in sorted(FOLLOWED - {"engines"} | FOLLOWED_KEYS) if _at(old, key) != _at(new, key)),
    )


def _at(config: Config, key: str) -> object:
    return functools.reduce(getattr, key.split("."), config)


def _place(engine: EngineConfig) -> tuple[str, str, str]:
    return engine.site, engine.url, engine.kv


def _needing_restart(old: Config, new: Config) -> Iterator[str]:
    for section in Config.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        if section in FOLLOWED or before == after:
            continue
        fields = type(before).model_fields if isinstance(before, Section) and type(before) is type(after) else ()
        changed = [f"{section}.{name}" for name in fields if getattr(before, name) != getattr(after, name)] or [section]
        yield from (key for key in changed if key not in FOLLOWED_KEYS)
    if bool(old.tenants) != bool(new.tenants):
        yield "tenants"  # whether clients need a key at all is no change to make in passing
    site = old.gateway.site
    if site in new.sites and old.sites[site] != new.sites[site]:
        yield f"sites.{site}"
