"""Regenerate the protobuf code: ``python -m prfaas.wire.generate`` (needs the ``dev`` extra).

The messages stay in ``prfaas/wire``; the gRPC stubs go to ``prfaas/transport``, the only package that may use gRPC.
"""

from pathlib import Path

PROTO = "prfaas/wire/transfer.proto"
MESSAGES = ("prfaas/wire/transfer_pb2.py", "prfaas/wire/transfer_pb2.pyi")
STUBS = "prfaas/transport/transfer_pb2_grpc.py"


def generate(source: Path, target: Path) -> None:
    """Write the generated files below ``target`` from the proto file below ``source`` (both repository roots)."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    for package in ("wire", "transport"):
        (target / "prfaas" / package).mkdir(parents=True, exist_ok=True)
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    status = protoc.main(["protoc", f"--proto_path={source}", *outputs, str(source / PROTO)])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status} on {source / PROTO}")
    (target / "prfaas/wire/transfer_pb2_grpc.py").replace(target / STUBS)


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    generate(root, root)
