"""The shared libraries of a build, and the processors that they are for."""

from __future__ import annotations

from pathlib import Path

ELF_MACHINES = {183: "arm64", 62: "x86_64"}
"""e_machine of the ELF header: EM_AARCH64 and EM_X86_64."""


def architectures(built: Path, runtime: str) -> set[str]:
    """Processors that the libraries of a build are for; it must have some, and for this Python."""
    libraries = [*built.rglob("*.so"), *built.rglob("*.so.*")]
    assert len(libraries) > 20
    tag = f"cpython-{runtime.removeprefix('python').replace('.', '')}"
    assert any(tag in library.name for library in libraries)
    return {ELF_MACHINES[_elf_machine(library)] for library in libraries}


def _elf_machine(library: Path) -> int:
    with library.open("rb") as file:
        header = file.read(20)
    assert header[:4] == b"\x7fELF"
    return int.from_bytes(header[18:20], "little")
