"""beside.py THERE WANTED: constraints that change nothing that is there and pin what is not. Standard library only.

Both are lists of ``name==version``, as ``pip freeze`` writes them; THERE may have other lines, which are left out.
"""

import re
import sys
from pathlib import Path


def pins(text: str) -> dict[str, str]:
    """Normalised name -> its line."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==\S+$", line.strip()):
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[0]
    return found


def beside(there: str, wanted: str) -> list[str]:
    """All that is there, and of what is wanted the rest."""
    return sorted({**pins(wanted), **pins(there)}.values(), key=str.lower)


if __name__ == "__main__":
    print("\n".join(beside(*(Path(path).read_text(encoding="utf-8") for path in sys.argv[1:3]))))
