"""The id of a request, in headers, records and logs."""

import re

from starlette.datastructures import Headers

HEADER = "x-request-id"
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""Room for the ids of proxies and tracers, and nothing that could break a header, a log line or a shell."""


def given_id(headers: Headers) -> str | None:
    """The client's own id, None when it gives none or one that is not plain.

    Two requests may come with the same one; the record keeps both, and who looks the id up gets the later.
    """
    given = headers.get(HEADER, "")
    return given if PLAIN.fullmatch(given) else None
