"""What the gateway's own processes take, under the names that Prometheus' clients give it; of workers the sum."""

import os
import resource
import time
from contextlib import suppress
from pathlib import Path

from prfaas.observe.definitions import Definitions

_LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
"""From a timer's usual slack to a loop that stands still for everybody."""
_OWN_FIGURES = Path("/proc/self/statm")
_OWN_FILES = Path("/proc/self/fd")


class ProcessMetrics:
    """Memory, processor time, descriptors and the event loop's lag of one process."""

    def __init__(self, definitions: Definitions, version: str) -> None:
        gauge = definitions.gauge
        self._memory = gauge("process_resident_memory_bytes", "Memory in use.", mode="livesum")
        self._descriptors = gauge("process_open_fds", "Open file descriptors.", mode="livesum")
        self._max_descriptors = gauge("process_max_fds", "How many there may be.", mode="livesum")
        self._started = gauge("process_start_time_seconds", "When the youngest process began, since 1970.")
        self._started.set(time.time())
        self._workers = gauge("prfaas_workers", "Processes of this gateway.", mode="livesum")
        self._build = gauge("prfaas_build_info", "1; the version is a label.", ["version"])
        self._build.labels(version).set(1)
        self._processor = definitions.counter("process_cpu_seconds_total", "Processor time, of user and kernel.")
        self._lag_s = definitions.histogram(
            "prfaas_event_loop_lag_seconds",
            "How much later than asked for the event loop wakes a task: all streams wait so long.",
            _LAG_BUCKETS_S,
        )
        self._processor_s = 0.0

    def look(self) -> None:
        """Take in how the process is now."""
        with suppress(OSError):  # reading takes a descriptor, and there may be none left
            pages = int(_OWN_FIGURES.read_text().split()[1])
            self._memory.set(pages * resource.getpagesize())
            # Where the kernel (6.2) tells their number, listing thousands would hold up all streams.
            self._descriptors.set(_OWN_FILES.stat().st_size or len(os.listdir(_OWN_FILES)))
        self._max_descriptors.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._workers.set(1)
        now_s = time.process_time()
        self._processor.inc(now_s - self._processor_s)
        self._processor_s = now_s

    def note_lag(self, seconds: float) -> None:
        """A task was woken so much too late."""
        self._lag_s.observe(max(0.0, seconds))
