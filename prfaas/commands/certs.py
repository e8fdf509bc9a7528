"""``prfaas certs``: certificates for sites."""

import json
from pathlib import Path
from typing import Annotated

import typer

from prfaas.commands.options import AsJson
from prfaas.commands.output import print_json
from prfaas.config import NAME_PATTERN, certificate_name
from prfaas.errors import ConfigError, EngineUnavailable


def certs(
    folder: Annotated[Path, typer.Argument(help="Where they are kept.", metavar="FOLDER")],
    site: Annotated[list[str], typer.Option("--site", help="A site that needs a certificate; may be repeated.")],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", help="Also put into the certificates: the hosts of https urls of engines, or of proxies."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the certificates are valid.")] = 365,
    as_json: AsJson = False,
) -> None:
    """Make certificates for sites, and at the first call the authority that signs them.

    Example: prfaas certs certs --site edge --site cloud

    Call it again to renew a site's certificate, or for another site; running engines take new files by themselves.
    """
    import datetime
    import re

    try:
        from prfaas.transport.certificates import issue
    except ModuleNotFoundError as error:
        raise EngineUnavailable(f"making certificates needs {error.name}: pip install 'prfaas[certs]'") from None
    for name in site:
        if not re.fullmatch(NAME_PATTERN, name) or name.lower() == "ca":
            raise ConfigError(f"--site {name}: not a name that a site can have here")
    names = {name: [certificate_name(name), *(host or ())] for name in dict.fromkeys(site)}
    is_new = issue(folder, names, datetime.datetime.now(datetime.UTC), days)
    sites = {name: {"tls": _files(folder, name)} for name in names}
    if as_json:
        print_json({"authority": {"key": str(folder / "ca.key"), "is_new": is_new}, "sites": sites})
    else:
        _print(folder / "ca.key", is_new, sites)


def _files(folder: Path, site: str) -> dict[str, str]:
    files = {"ca": "ca.crt", "cert": f"{site}.crt", "key": f"{site}.key"}
    return {key: str(folder / file) for key, file in files.items()}


def _print(key: Path, is_new: bool, sites: dict[str, dict[str, dict[str, str]]]) -> None:
    """What belongs into the configuration, as YAML."""
    print(f"{key}  the authority's key, {'new' if is_new else 'as before'}: keep it safe, no server needs it\n")
    print("sites:")
    for name, section in sites.items():
        print(f"  {name}:  # needs these three files on each of its hosts")
        print(f"    tls: {json.dumps(section['tls'])}")
