"""The shell commands in a page of Markdown."""

import re
from collections.abc import Iterator

SHELLS = frozenset({"sh", "bash", "console", ""})
"""Of fenced blocks: what their first line may say. Blocks that say nothing may also hold something else."""
PROGRAMS = frozenset(
    ["cd", "chmod", "cp", "curl", "deploy/verify", "docker", "git", "grep", "kill", "make", "mkdir", "nvidia-ctk"]
    + ["openssl", "pip", "prfaas", "pytest", "python", "python3", "ssh", "sysctl", "tr", "$compose"]
    + [f".venv/bin/{name}" for name in ("mypy", "prfaas", "pytest", "python", "ruff")]
)
"""What a command begins with, in blocks that do not say that they are a shell's. A new one has to be added here, or its
block to be marked ``sh``."""


def shell_commands(page: str) -> Iterator[str]:
    """Each command of the page's fenced and indented blocks, in order: on one line, without prompt and comment."""
    for language, block in _blocks(page):
        is_marked = language in ("sh", "bash") or re.search(r"^\$ ", block, re.MULTILINE)
        has_prompts = language == "console" or re.search(r"^\$ ", block, re.MULTILINE)
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            command = without_comment(line.removeprefix("$ ")).strip()
            is_output = bool(has_prompts) and not line.startswith("$ ")
            if command and not is_output and (is_marked or language == "console" or _begins_like_one(command)):
                yield " ".join(command.split())


def without_comment(line: str) -> str:
    """The line up to a ``#`` that begins a word outside quotes."""
    quote = ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at]
    return line


def _begins_like_one(command: str) -> bool:
    first = command.split()[0]
    return first in PROGRAMS or bool(re.match(r"\w+=\"", command))


def _blocks(page: str) -> Iterator[tuple[str, str]]:
    """(language, text without its indentation) of each block that may be a shell's."""
    fence = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
    for indent, language, text in fence.findall(page):
        if language in SHELLS:
            yield language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
    for text in re.findall(r"(?:^ {4}\S.*\n)+", fence.sub("", page), re.MULTILINE):
        yield "", re.sub(r"^ {4}", "", text, flags=re.MULTILINE)


def inline_commands(page: str) -> Iterator[str]:
    """`make ...`, `python -m ...` and `pytest ...` in sentences and tables."""
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)):
        if re.match(r"make \w|python -m \w|(\.venv/bin/)?pytest tests/", span):
            yield span
