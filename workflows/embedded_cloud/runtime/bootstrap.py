"""First code of an execution environment: tie the process to the cloud's, then run AWS's runtime client.

Runs under the function's interpreter, with the standard library alone; it is copied, not imported.
"""

import os
import resource
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def die_with_parent() -> None:
    """Ask Linux to kill this process when the cloud dies, even while this process is stopped."""
    parent = int(os.environ.pop("_EMBEDDED_CLOUD_PID"))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), SIGKILL)


def limit_files() -> None:
    """No file may be larger than all of /tmp: what several take together is not counted."""
    size = int(os.environ.pop("_EMBEDDED_CLOUD_FILE_BYTES"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


if __name__ == "__main__":
    die_with_parent()
    limit_files()
    sys.path[0] = os.environ["LAMBDA_TASK_ROOT"]
    from awslambdaric.__main__ import main

    main(["awslambdaric", os.environ["_HANDLER"]])
