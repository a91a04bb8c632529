"""Becomes a child that cannot outlive its parent: `child_launcher.py SIGNAL PARENT COMMAND...`.

Run as a script, with nothing of Turnpike imported. It asks the kernel to send `SIGNAL` when the
parent dies, makes sure that this has not happened yet, and turns into the command. A launcher
instead of a `preexec_fn`, because forking a process with gRPC's threads is not safe.

Source: prctl(2), PR_SET_PDEATHSIG; it survives execve of a program that is not set-user-ID.
"""

import ctypes
import os
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
_FAILED: Final = 127


def main(arguments: list[str]) -> None:
    """Arm the signal and become the command.

    Args:
        arguments: Signal number, process id of the parent, then the command.
    """
    death_signal, parent_pid, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        sys.exit(_FAILED)
    if os.getppid() != int(parent_pid):
        sys.exit(_FAILED)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command comes from Turnpike itself
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(_FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
