"""``prfaas version``."""

from prfaas import __version__
from prfaas.commands.options import AsJson
from prfaas.commands.output import tell


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    tell({"version": __version__}, __version__, as_json=as_json)
