"""Mooncake's transfer engine over TCP: one engine writes into the registered memory of another.

``mooncake_write.py target BYTES`` prints its address; ``mooncake_write.py write BYTES`` reads it and then,
for every line of its input, writes all once and prints the seconds.
"""

import sys
import time

import numpy as np
from mooncake.engine import TransferEngine


def main(role: str, size_bytes: int) -> None:
    engine = TransferEngine()
    if engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", ""):
        raise SystemExit("the transfer engine did not start")
    memory = np.full(size_bytes, 7, dtype=np.uint8)
    base = memory.ctypes.data
    engine.register_memory(base, size_bytes)
    if role == "target":
        print(f"PEER 127.0.0.1:{engine.get_rpc_port()} {base}", flush=True)
        sys.stdin.read()
        return
    _, address, remote = sys.stdin.readline().split()
    print("READY", flush=True)
    for _ in sys.stdin:
        began_s = time.monotonic()
        code = engine.transfer_sync_write(address, base, int(remote), size_bytes)
        print("SECONDS", time.monotonic() - began_s if code == 0 else f"failed with {code}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
