"""`sam build` for the other processor, without Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.project import DEFAULT_RUNTIME, Project
from tests.e2e.tools import Tools
from workflows import built_sizes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ELF_MACHINES = {"arm64": 183, "x86_64": 62}
"""e_machine of the ELF header: EM_AARCH64 and EM_X86_64."""


def elf_machine(library: Path) -> int:
    """The processor that a shared library is for."""
    header = library.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    return int.from_bytes(header[18:20], "little")


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_layer_is_for_the_processor_named(tools: Tools, tmp_path: Path, architecture: str) -> None:
    project = Project.copy(tools, tmp_path, "unused", {"Architecture": architecture})
    said = project.build()
    assert f"layer for {DEFAULT_RUNTIME} on {architecture}" in said
    built = tmp_path / ".aws-sam" / "build"
    libraries = [*built.rglob("*.so"), *built.rglob("*.so.*")]
    assert len(libraries) > 20
    assert {elf_machine(library) for library in libraries} == {ELF_MACHINES[architecture]}
    assert any(
        f"cpython-{DEFAULT_RUNTIME.removeprefix('python').replace('.', '')}" in each.name
        for each in libraries
    )
    assert all(function.fits for function in built_sizes.built_functions(built))
