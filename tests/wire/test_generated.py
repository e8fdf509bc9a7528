"""The protobuf code in the tree."""

from pathlib import Path

from prfaas.wire.generate import MESSAGES, STUBS, generate

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_is_what_the_proto_file_gives(tmp_path: Path) -> None:
    """Regenerating changes nothing, so proto file and code cannot drift apart."""
    generate(ROOT, tmp_path)
    for path in (*MESSAGES, STUBS):
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"run python -m prfaas.wire.generate: {path}"
