"""iperf3, as it measures itself."""

import json
import shutil
import socket
import subprocess
from collections.abc import Sequence

PATIENCE_S = 60.0


def missing() -> str:
    """Why it cannot run; empty when it can."""
    return "" if shutil.which("iperf3") else "iperf3 is not installed (apt-get install iperf3)"


def measure(
    size_bytes: int,
    connections: int,
    *,
    host: str = "127.0.0.1",
    at_server: Sequence[str] = (),
    at_client: Sequence[str] = (),
) -> float:
    """Send so many bytes; return the seconds as the receiver saw them. The server listens at ``host``; ``at_...`` is
    what a command line begins with to run where that side is."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    serve = [*at_server, "iperf3", "-s", "-1", "-p", port, "--forceflush"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        # A client that comes before the listener can connect to itself and hang.
        assert server.stdout is not None
        next(line for line in server.stdout if "listening" in line)
        command = [*at_client, "iperf3", "-c", host, "-p", port, "-P", str(connections), "-n", str(size_bytes), "-J"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        finally:
            server.kill()
    end = json.loads(result.stdout)["end"]["sum_received"]
    return float(end["seconds"]) * size_bytes / float(end["bytes"])
