"""What a source may grow to when it is unpacked."""

from __future__ import annotations

import os

from lamella.errors import ModelError


def memory_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(where: str, size_bytes: int) -> None:
    """Refuse what can't be held.

    Raises
    ------
    ModelError
        If it is more than this machine's memory.
    """
    most = memory_bytes()
    if size_bytes > most:
        raise ModelError(
            f"{where} unpacks to more than this machine's {most / 1e9:,.1f} GB of memory: "
            "write it again, or use a larger machine"
        )
