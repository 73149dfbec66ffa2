"""Which kernel this machine gets: the compiled one for its processor, or numpy's where there is none."""

from __future__ import annotations

import os
import platform
import re
import warnings
from functools import cache
from pathlib import Path

from lamella.kernel.compiled import Compiled
from lamella.kernel.interface import Kernel
from lamella.kernel.plain import Plain

# What `make setup` builds in a checkout. In a function, Lambda has the layer's lib/ in LD_LIBRARY_PATH.
_BUILT = ("build", "kernel")
_PACKAGE_DEPTH = 4  # lambdas/functions/lamella/kernel
_CPU_INFO = Path("/proc/cpuinfo")

# What a processor must have for each library, the fastest first: gitlab.com/x86-psABIs/x86-64-ABI, levels.
_NEEDED = {
    "x86_64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma"}),
    "x86_64-v3": frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
    "aarch64": frozenset({"asimd"}),
}
COST = "runs take several times as long (results are the same), dense layers some two hundred times"


@cache
def choose_kernel(name: str | None = None) -> Kernel:
    """The fastest kernel that this machine can run.

    Parameters
    ----------
    name
        The one to take: a library's, or ``numpy``. By default ``$LAMELLA_KERNEL``, or else the fastest.

    Raises
    ------
    ValueError
        If this machine has no kernel of that name.
    """
    wanted = name or os.environ.get("LAMELLA_KERNEL")
    if wanted == Plain.name:
        return Plain()
    reasons = []
    for library in _libraries(wanted):
        try:
            return Compiled(library)
        except (OSError, AttributeError) as error:
            reasons.append(str(error))
    if wanted:
        raise ValueError(f"this machine has no kernel {wanted!r}: it has {', '.join(available())}")
    why = reasons[0] if reasons else "there is none for this processor"
    warnings.warn(
        f"the compiled kernel can't be used, {COST}: {why}: run make setup, or deploy the layer again",
        RuntimeWarning,
        stacklevel=2,
    )
    return Plain()


def available() -> list[str]:
    """Names of the kernels that this machine can run, the fastest first."""
    return [*(library.stem.removeprefix("liblamella-") for library in _libraries(None)), Plain.name]


def _libraries(wanted: str | None) -> list[Path]:
    features = _features()
    folders = [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    above = Path(__file__).resolve().parents
    if len(above) > _PACKAGE_DEPTH:
        folders.append(above[_PACKAGE_DEPTH].joinpath(*_BUILT))
    found = []
    for name, needed in _NEEDED.items():
        if name.startswith(platform.machine()) and needed <= features and wanted in {None, name}:
            paths = [folder / f"liblamella-{name}.so" for folder in folders]
            found += [path for path in paths if path.is_file()][:1]
    return found


def _features() -> frozenset[str]:
    try:
        text = _CPU_INFO.read_text()
    except OSError:
        return frozenset()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(line.group(1).split()) if line else frozenset()
