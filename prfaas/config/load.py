"""Reading the configuration: the YAML file, then the environment's overrides, then the checks."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prfaas.config.problems import describe, inconsistencies, shown
from prfaas.config.sections import Config
from prfaas.errors import ConfigError

ENV_PREFIX = "PRFAAS__"


def load_config(path: str | Path, env: Mapping[str, str]) -> Config:
    """Read the file, apply the environment's overrides, check everything.

    Raises:
        ConfigError: one line for each problem: key path, value, reason.
    """
    tree = read_tree(path, "model, gateway, sites and engines")
    _override(tree, env)
    return parse_config(tree)


def read_tree(path: str | Path, expected: str) -> dict[str, Any]:
    """The sections of a YAML file, unchecked; ``expected`` names some of them, for whoever gave another file.

    Raises:
        ConfigError: a file that cannot be read, is not YAML, has a key twice or no sections.
    """
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as {expected}")
    return tree


def parse_config(tree: Mapping[str, Any]) -> Config:
    """Check a tree of plain values. Raises ConfigError with one line for each thing that is wrong."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(describe(item) for item in error.errors())) from None
    if problems := list(inconsistencies(config)):
        raise ConfigError("\n".join(problems))
    return config


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration file, for editors and other tools."""
    return Config.model_json_schema()


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _override(tree: dict[str, Any], env: Mapping[str, str]) -> None:
    """Put the environment's values into the tree of the file."""
    for variable in sorted(name for name in env if name.startswith(ENV_PREFIX)):
        *parents, last = variable.removeprefix(ENV_PREFIX).lower().split("__")
        node: Any = tree
        for key in parents:
            node = _child(node, key, variable)
        value = env[variable]
        try:
            parsed = yaml.load(value, Loader=_Loader) if value.startswith(("[", "{")) else value
            node[_matching(node, last)] = parsed
        except (yaml.YAMLError, IndexError, TypeError, ValueError):
            raise ConfigError(f"{variable}: {shown(value)} cannot be put there") from None


def _child(node: Any, key: str, variable: str) -> Any:
    try:
        match = _matching(node, key)
        if isinstance(node, dict) and node.get(match) is None:
            node[match] = {}
        return node[match]
    except (IndexError, TypeError, ValueError):
        raise ConfigError(f"{variable}: there is no {key!r} to override") from None


def _matching(node: Any, key: str) -> Any:
    """The key of ``node`` that an environment variable means by ``key``, or ``key`` itself if it is new."""
    if isinstance(node, list):
        return int(key)
    return next((known for known in node if str(known).lower().replace("-", "_") == key.replace("-", "_")), key)
