"""Waits for the cloud to die, then kills every process group it had told of.

Runs in a session of its own with the standard library alone. Lines on stdin: "+PID" and "-PID"; end of file
means that the cloud is gone, however it went. SIGKILL also ends groups that are stopped.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read until the cloud is gone, then kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
