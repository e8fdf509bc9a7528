"""Building the images, also where the build reaches its packages only in this machine's own ways."""

import contextlib
import functools
import http.server
import os
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.verifying.docker import build, image_mb
from deploy.verifying.say import say

IMAGES = {"gateway": "prfaas-gateway:dev", "engine-cpu": "prfaas-engine-cpu:dev"}
"""Target of the Dockerfile -> name, as deploy/local/compose.yaml has it."""
PASSED_ON = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT", "TORCH_INDEX_URL", "BASE_IMAGE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""Variables of the environment that builds are given. Docker keeps build arguments out of the images' environment."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a build asks for many names."""


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """A folder of wheels at a URL of the loopback interface, which builds reach through the host's network."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def build_images() -> dict[str, int]:
    """Build what the local stack runs; returns the sizes in MB by target.

    ``PRFAAS_BUILD_OPTIONS`` in the environment goes to each ``docker build``.

    Raises:
        DockerFailed: a build failed; with its last words.
    """
    options = [f"--build-arg={name}" for name in PASSED_ON if os.environ.get(name)]
    options += shlex.split(os.environ.get("PRFAAS_BUILD_OPTIONS", ""))
    with contextlib.ExitStack() as stack:
        wheels = os.environ.get("PIP_FIND_LINKS", "")
        if Path(wheels).is_dir() and wheels:
            wheels = stack.enter_context(_served(Path(wheels)))
            options.append("--network=host")
        if wheels:
            options.append(f"--build-arg=PIP_FIND_LINKS={wheels}")
        for target, image in IMAGES.items():
            say(f"building {image}")
            started_s = time.monotonic()
            build(target, image, options)
            say(f"built {image} in {time.monotonic() - started_s:.0f} s: {image_mb(image)} MB")
    return {target: image_mb(image) for target, image in IMAGES.items()}
