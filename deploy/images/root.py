"""root.py PREFIX ROOT: copy into ROOT the part of this system that the environment PREFIX runs on.

That is Python with its standard library, the shared libraries that it and the environment load, a shell, the
certificates of authorities, and the user. No package manager, no documentation: half the size of the base image. Runs
as root.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

PROGRAMS = ("sh", "cat", "ls", "env", "id")
"""For compose's commands, and for whoever looks into a container."""
KEPT = (
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release", "/usr/lib/os-release"),
    *("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/openssl.cnf", "/usr/lib/ssl"),
    *("/bin", "/lib", "/lib64", "/sbin", "/tmp"),
)
"""Files, links, and empty folders; those of them that there are."""
NOT_OF_THE_LIBRARY = (
    *(
        "test",
        "idlelib",
        "lib2to3",
        "ensurepip",
        "turtledemo",
        "tkinter",
        "pydoc_data",
        "site-packages",
        "dist-packages",
    ),
    "config-*",
)
PRFAAS = ("/home/prfaas", "/models", "/certs", "/secrets", "/state", "/cache")
ELF = b"\x7fELF"


def python_files() -> Iterator[Path]:
    """The interpreter under all its names, and its standard library."""
    real = Path(sys.executable).resolve()
    for folder in {real.parent, Path("/usr/bin"), Path("/usr/local/bin")}:
        yield from (path for path in folder.glob("python3*") if path.resolve() == real)
        yield from (path for path in [folder / "python"] if path.resolve() == real)
    yield Path(sysconfig.get_path("stdlib"))


def is_elf(path: Path) -> bool:
    """Whether it is a program or a shared library."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == ELF


def libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries that these load, as ldd finds them."""
    found = set()
    for path in files:
        lines = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout.splitlines()
        words = (line.split("=>")[-1].split() for line in lines)
        found |= {Path(word[0]) for word in words if word and word[0].startswith("/")}
    return found


def copy(source: Path, root: Path) -> None:
    """Copy a file or a folder to the same place below ``root``, with its owner; a link with what it leads to."""
    source = source.parent.resolve() / source.name  # /lib is a link to /usr/lib
    target = root / source.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        copy(source.parent / os.readlink(source), root)
    if os.path.lexists(target):
        return
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*NOT_OF_THE_LIBRARY))
        shutil.chown(target, source.owner(), source.group())
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def main(prefix: Path, root: Path) -> None:
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name))]
    kept = [Path(path) for path in (*KEPT, *PRFAAS) if os.path.lexists(path)]
    own = [*python_files(), *programs, *kept]
    for path in own:
        copy(path, root)
    elves = [path for folder in (prefix, root) for path in folder.rglob("*") if is_elf(path)]
    needed = {path for path in libraries(elves) if not path.is_relative_to(prefix)}
    for path in sorted(needed):
        copy(path, root)
    (root / "tmp").chmod(0o1777)
    print(f"root: {len(needed)} libraries")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
