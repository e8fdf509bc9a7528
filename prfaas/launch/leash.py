"""A small program between a launcher and the program it starts: when the launcher dies, nothing stays behind.

Run as a script: ``python leash.py LAUNCHER_PID GRACE_S program args...``, as the leader of its own session. It starts
the program in its own process group, waits for it and ends as it does. The kernel tells it of the launcher's death,
SIGKILL included; then the group gets SIGTERM and, ``GRACE_S`` seconds later, SIGKILL. (vLLM does not heed SIGTERM while
it starts, so handing that signal to the program alone would leave it running.)

Signals to the group reach the program by themselves, so the leash takes no part in them.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
LAUNCHER_DIED = signal.SIGUSR1
AWAITED = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, LAUNCHER_DIED}


def main() -> NoReturn:
    launcher, grace_s, program = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    inherited = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    ask_for_death_signal(LAUNCHER_DIED)
    if os.getppid() != launcher:  # it died before the call above
        sys.exit(1)
    child = os.fork()
    if child == 0:
        ask_for_death_signal(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited)
        become(program)
    while True:
        received = signal.sigwait(AWAITED)
        if received == LAUNCHER_DIED:
            end_group(child, grace_s)
        elif received == signal.SIGCHLD and (code := exit_code(child)) is not None:
            sys.exit(code)


def become(program: list[str]) -> NoReturn:
    try:
        os.execvp(program[0], program)
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def exit_code(child: int) -> int | None:
    """The child's exit code, 128 + signal if one ended it, None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def end_group(child: int, grace_s: float) -> NoReturn:
    """Ask the own group to end, wait for the child up to ``grace_s``, kill the group and with it this process."""
    os.killpg(0, signal.SIGTERM)
    while exit_code(child) is None and signal.sigtimedwait({signal.SIGCHLD}, grace_s) is not None:
        pass
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("SIGKILL to the own group does not return")


def ask_for_death_signal(number: signal.Signals) -> None:
    """Have the kernel send ``number`` to this process when its parent dies. Kept across exec."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


if __name__ == "__main__":
    main()
