"""Command line: ``python -m prfaas.engine.tiny ARCH OUT_DIR [--seed N]``."""

import argparse
import sys
from pathlib import Path

from prfaas.engine.tiny import ARCHITECTURES, make_tiny_model
from prfaas.errors import ConfigError


def main(arguments: list[str]) -> int:
    kinds = "\n".join(f"  {name:16} {architecture.summary}" for name, architecture in ARCHITECTURES.items())
    parser = argparse.ArgumentParser(
        prog="python -m prfaas.engine.tiny",
        description="Write a small model that vLLM serves on a CPU.",
        epilog=f"architectures:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("arch", metavar="ARCH", choices=ARCHITECTURES, help="one of the architectures below")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="folder to write; left alone when up to date")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    options = parser.parse_args(arguments)
    try:
        print(make_tiny_model(options.arch, options.out, options.seed))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
