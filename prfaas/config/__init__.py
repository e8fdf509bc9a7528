"""The configuration: one YAML file, environment overrides, checked as a whole before anything starts.

``PRFAAS__SECTION__KEY=value`` in the environment overrides ``section.key`` of the file; a name in between is matched
without regard to case and with ``_`` for ``-`` (``PRFAAS__ENGINES__EDGE_0__URL``), a list item by its position. A value
that starts with ``[`` or ``{`` is read as YAML, any other is plain text.
"""

from prfaas.config.access import AccessConfig, HttpsConfig, KeySource, PriorityConfig, SecretSource, TenantConfig
from prfaas.config.base import NAME_PATTERN
from prfaas.config.controller import ControllerConfig
from prfaas.config.load import json_schema, load_config, parse_config
from prfaas.config.observe import ObserveConfig, TracesConfig
from prfaas.config.policy import PolicyConfig
from prfaas.config.sections import (
    Config,
    EngineConfig,
    GatewayConfig,
    LinkConfig,
    ModelConfig,
    Role,
    SiteConfig,
    TlsConfig,
)
from prfaas.config.tls import certificate_name, tls_settings

__all__ = [
    "NAME_PATTERN",
    "AccessConfig",
    "Config",
    "ControllerConfig",
    "EngineConfig",
    "GatewayConfig",
    "HttpsConfig",
    "KeySource",
    "LinkConfig",
    "ModelConfig",
    "ObserveConfig",
    "PolicyConfig",
    "PriorityConfig",
    "Role",
    "SecretSource",
    "SiteConfig",
    "TenantConfig",
    "TlsConfig",
    "TracesConfig",
    "certificate_name",
    "json_schema",
    "load_config",
    "parse_config",
    "tls_settings",
]
