"""How tests are dealt to the processes that run them at the same time: what shares a cloud stays together."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# Each with a cloud, and a stack in it, that is there once for all of the folder.
SHARE_A_CLOUD = frozenset({"tests/channels", "tests/cloud", "tests/integration", "tests/workflows"})
# Long, and with clouds of their own.
ALONE = frozenset({"tests/integration/test_aws_cli.py", "tests/integration/test_cli.py"})


def dealt_together(node_id: str) -> str:
    """Return the folder or file whose tests go to one process, one after another."""
    file = PurePosixPath(node_id.partition("::")[0])
    folder = file.parent.as_posix()
    return folder if folder in SHARE_A_CLOUD and file.as_posix() not in ALONE else file.as_posix()


class ByCloud(LoadScopeScheduling):  # type: ignore[misc]
    """Deals folders that share a cloud, and files of the others, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return dealt_together(nodeid)
