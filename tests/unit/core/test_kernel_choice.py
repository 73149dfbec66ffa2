"""Which kernel a machine gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamella.kernel import choice
from lamella.kernel.choice import available, choose_kernel

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _chosen_anew() -> Iterator[None]:
    choose_kernel.cache_clear()
    yield
    choose_kernel.cache_clear()


def test_the_fastest_that_the_processor_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fastest, *others = available()
    assert choose_kernel().name == fastest
    assert others[-1] == "numpy"
    monkeypatch.setattr(choice, "_features", frozenset)
    assert available() == ["numpy"]


def test_the_environment_can_name_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in available():
        choose_kernel.cache_clear()
        monkeypatch.setenv("LAMELLA_KERNEL", name)
        assert choose_kernel().name == name


def test_a_name_that_this_machine_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no kernel 'abacus': it has .*numpy"):
        choose_kernel("abacus")


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF is not all"])
def test_absent_or_unloadable_numpy_takes_over_with_one_warning(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_PACKAGE_DEPTH", 99)
    if content is not None:
        names = available() if len(available()) > 1 else list(choice._NEEDED)
        for name in names:
            (tmp_path / f"liblamella-{name}.so").write_bytes(content)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:/nowhere")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [choose_kernel().name for _ in range(3)] == ["numpy"] * 3
    assert len(caught) == 1
    assert "several times as long (results are the same)" in str(caught[0].message)


def test_a_layer_s_library_is_found_where_lambda_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = ROOT / "build" / "kernel"
    fastest = available()[0]
    if fastest == "numpy":
        pytest.skip("no kernel was compiled here")
    library = f"liblamella-{fastest}.so"
    shutil.copy(built / library, tmp_path)
    monkeypatch.setattr(choice, "_PACKAGE_DEPTH", 99)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert choose_kernel().name == fastest


def test_a_build_without_a_compiler_for_the_machine_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(ROOT / "lambdas" / "layer" / "kernel" / "build.sh"), "pdp11", str(tmp_path)],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "no kernel for pdp11: x86_64 or aarch64\n"
