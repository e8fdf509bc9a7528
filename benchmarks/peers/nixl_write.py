"""NIXL over UCX TCP: one agent writes into the registered memory of another.

``nixl_write.py target BYTES`` prints its metadata and address; ``nixl_write.py write BYTES`` reads them and
then, for every line of its input (``chunk bytes``), writes all once and prints the seconds.
"""

import base64
import sys
import time

import numpy as np
from nixl._api import nixl_agent, nixl_agent_config


def main(role: str, size_bytes: int) -> None:
    agent = nixl_agent(role, nixl_agent_config(backends=["UCX"]))
    memory = np.full(size_bytes, 7, dtype=np.uint8)
    base = memory.ctypes.data
    agent.register_memory([(base, size_bytes, 0, "")], "DRAM")
    if role == "target":
        print("PEER", base64.b64encode(agent.get_agent_metadata()).decode(), base, flush=True)
        sys.stdin.read()
        return
    _, metadata, remote = sys.stdin.readline().split()
    peer = agent.add_remote_agent(base64.b64decode(metadata))
    print("READY", flush=True)
    for line in sys.stdin:
        chunk = int(line)
        places = range(0, size_bytes, chunk)
        ours = agent.get_xfer_descs([(base + at, chunk, 0) for at in places], "DRAM")
        theirs = agent.get_xfer_descs([(int(remote) + at, chunk, 0) for at in places], "DRAM")
        handle = agent.initialize_xfer("WRITE", ours, theirs, peer)
        began_s = time.monotonic()
        state = agent.transfer(handle)
        while state == "PROC":
            state = agent.check_xfer_state(handle)
        print("SECONDS", time.monotonic() - began_s if state == "DONE" else state, flush=True)
        agent.release_xfer_handle(handle)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
