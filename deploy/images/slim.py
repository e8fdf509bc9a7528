"""slim.py PREFIX: take out of an environment what only developers need, and compile what a start imports.

Run with that environment's Python. Compiled files carry no dates (PEP 552, unchecked hashes), so the same packages make
the same image. Only the modules that a start imports are compiled: compiling all would add half the image again.
"""

import importlib
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

START = (
    "prfaas.cli",
    "prfaas.config",
    "prfaas.gateway.serve",
    "prfaas.gateway.live",
    "prfaas.gateway.workers",
    "prfaas.gateway.control.make",
    "prfaas.gateway.operator_client",
    "prfaas.transport.report",
    "prfaas.transport.process",
    "transformers.models.auto.tokenization_auto",
    "uvloop",
    "httptools",
    "uvicorn.protocols.http.httptools_impl",
    "http.client",
    "cryptography.x509",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.sampling",
)
"""What the programs of the image import, as far as it can be told without running them. The last two are for traces."""
FOR_DEVELOPERS = ("tests", "test", "include", "f2py")
SUFFIXES = (".pyi", ".c", ".h", ".pyx", ".pxd", ".hpp", ".a")
MODELS = [
    "modeling_*",
    "modular_*",
    "convert_*",
    "image_processing_*",
    "video_processing_*",
    "feature_extraction_*",
    "generation_*",
]
"""Of transformers: what needs torch. It looks for the files that are there, so fewer make its import faster, too."""


def strip(prefix: Path) -> None:
    """Remove tests, headers, models and symbols for debuggers."""
    for folder in sorted(prefix.rglob("site-packages/**/"), reverse=True):
        if folder.name in FOR_DEVELOPERS:
            shutil.rmtree(folder)
    models = [
        path
        for name in MODELS
        for path in prefix.rglob(f"transformers/models/*/{name}.py")
        if path.parent.name != "auto"  # the tables of all models, which tokenizers look into as well
    ]
    for path in [*models, *(path for path in prefix.rglob("*") if path.suffix in SUFFIXES and path.is_file())]:
        path.unlink()
    # Libraries that auditwheel has put beside a package do not survive it.
    modules = [str(path) for path in prefix.rglob("*.so") if not path.parent.name.endswith(".libs")]
    subprocess.run(["strip", "--strip-unneeded", *modules], check=True)


def tokenizers() -> list[str]:
    """The modules of transformers' tokenizers that can be imported."""
    import transformers

    folder = Path(str(transformers.__file__)).parent / "models"
    found = []
    for path in sorted(folder.glob("*/tokenization_*.py")):
        name = f"transformers.models.{path.parent.name}.{path.stem}"
        try:
            importlib.import_module(name)
        except Exception:  # whatever a module raises without torch, it cannot be imported
            continue
        found.append(name)
    return found


def compile_started(prefix: Path) -> int:
    """Compile what importing ``START`` imports; returns how many modules. Raises ImportError when one cannot be."""
    for name in START:
        importlib.import_module(name)
    sources = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    mine = sorted(path for path in sources if path and path.endswith(".py") and path.startswith(f"{prefix}{os.sep}"))
    for path in mine:
        py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return len(mine)


def run_self(*arguments: str) -> list[str]:
    """This program in a process that has imported nothing yet; returns the lines that it prints."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def main(*arguments: str) -> None:
    prefix = Path(arguments[-1])
    if "--tokenizers" in arguments:
        print("\n".join(tokenizers()))
        return
    if "--compile" in arguments:
        print(compile_started(prefix))
        return
    for folder in list(prefix.rglob("__pycache__")):
        shutil.rmtree(folder)
    before = run_self("--tokenizers", str(prefix))
    strip(prefix)
    if lost := set(before) - set(run_self("--tokenizers", str(prefix))):
        sys.exit(f"slim: tokenizers that can no longer be imported: {', '.join(sorted(lost))}")
    print(f"slim: {len(before)} modules of tokenizers")
    print(f"slim: {run_self('--compile', str(prefix))[0]} modules compiled")


if __name__ == "__main__":
    main(*sys.argv[1:])
