"""The controller of a configuration."""

import hashlib
from dataclasses import fields
from pathlib import Path

from prfaas.config import Config
from prfaas.errors import ConfigError
from prfaas.planner.controller.controller import TwoScaleController
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.planner.controller.view import SeenController
from prfaas.planner.profile import EngineProfile
from prfaas.planner.profile_file import load_profile
from prfaas.planner.workload import Slo


def basis_of(config: Config) -> object:
    """What the controller is made of, to compare: a profile by what its file holds, which may be measured again."""
    section, profiles = config.controller, config.controller.profiles
    return (
        section.model_copy(update={"mode": "on"}),
        config.model.max_model_len,
        tuple(config.convertible_engines()),
        tuple(_digest(path) for path in (profiles.local, profiles.remote)),
    )


def controller_of(config: Config, former: SeenController | None = None) -> SeenController:
    """With the configuration's settings, and the profiles that it names. It counts the conversions of the ``former``
    one as its own. One of several workers, which sees a part of the requests but all of the engines, divides none.

    Raises:
        ConfigError: a profile cannot be used, or not with the pace that is promised.
    """
    section = config.controller
    return TwoScaleController(
        config.policy.threshold_tokens,
        local=_profile("local", section.profiles.local),
        remote=_profile("remote", section.profiles.remote),
        slo=Slo(token_s=section.slo_token_s),
        settings=settings_of(config),
        convertible=config.convertible_engines() if config.gateway.workers == 1 else (),
        former=former if isinstance(former, TwoScaleController) else None,
    )


def settings_of(config: Config) -> ControllerSettings:
    """The keys of the section that are the controller's; the others are the gateway's own."""
    names = {field.name for field in fields(ControllerSettings)} & set(type(config.controller).model_fields)
    return ControllerSettings(**{name: getattr(config.controller, name) for name in names})


def _digest(path: str | None) -> bytes | None:
    """None without a file, and for one that cannot be read: whoever loads it says why."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest() if path is not None else None
    except OSError:
        return None


def _profile(which: str, path: str | None) -> EngineProfile | None:
    try:
        return load_profile(Path(path)) if path is not None else None
    except ConfigError as error:
        key = f"controller.profiles.{which}"
        raise ConfigError("\n".join(f"{key}: {line}" for line in str(error).splitlines())) from None
