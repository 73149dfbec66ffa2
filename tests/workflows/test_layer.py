"""The layer's build."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
LAYER = ROOT / "lambdas" / "layer"
UV = Path(sys.executable).with_name("uv")
RUNTIME = f"python3.{sys.version_info.minor}"
# What is not to be done again in a folder where it was.
BUILT = ("--old-file=install", "--old-file=strip", "--old-file=kernel")
USE = """
import arro3.io, boto3, numpy, pydantic, safetensors.numpy, aws_lambda_powertools
from numpy import *
for service in ("cloudformation", "lambda", "s3", "sns", "sqs", "stepfunctions", "sts"):
    boto3.client(service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
print(numpy.__file__)
"""


def build(artifacts: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", "build-DependenciesLayer"],
        cwd=LAYER,
        env=environment | {"ARTIFACTS_DIR": str(artifacts), "UV": str(UV), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("layer")
    done = build(directory, RUNTIME=RUNTIME)
    assert done.returncode == 0, done.stderr
    assert re.search(r"layer for python3\.\d+ on x86_64: \d+ MB unzipped", done.stdout)
    return directory


def test_what_the_functions_import_is_there_and_works_when_stripped(artifacts: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-c",
            f"import sys; sys.path.append({str(artifacts / 'python')!r}){USE}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(artifacts))


def test_tests_stubs_and_other_services_are_left_out(artifacts: Path) -> None:
    site = artifacts / "python"
    services = {path.name for path in (site / "botocore" / "data").iterdir() if path.is_dir()}

    assert "ec2" not in services
    assert {"cloudformation", "lambda", "s3", "sns", "sqs", "stepfunctions"} <= services
    assert not list(site.rglob("*.pyi"))
    assert not list(site.rglob("__pycache__"))
    assert not list(site.glob("numpy/lib/**/tests"))
    assert not (site / "scipy").exists()


def test_a_layer_that_lambda_would_refuse_fails_the_build(artifacts: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "build-DependenciesLayer", f"ARTIFACTS_DIR={artifacts}", f"UV={UV}", "LIMIT_MB=10", *BUILT],
        cwd=LAYER,
        env=environment | {"RUNTIME": RUNTIME},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "MB unzipped (at most 10)" in done.stdout


# Of these, python3.11 alone is on Amazon Linux 2, whose glibc (2.26) is older than the newest wheels ask for.
@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_another_python_and_processor_can_be_named(tmp_path: Path, version: str) -> None:
    done = build(tmp_path, RUNTIME=f"python{version}", ARCHITECTURE="arm64")

    assert done.returncode == 0, done.stderr
    built = {path.name for path in (tmp_path / "python" / "numpy").rglob("*.so")}
    assert built
    assert all(f"cpython-{version.replace('.', '')}-aarch64" in name for name in built)
    (tags,) = (tmp_path / "python").glob("arro3_io-*.dist-info/WHEEL")
    assert ("manylinux_2_17_aarch64" in tags.read_text()) == (version == "3.11")


def test_the_defaults_are_the_template_s() -> None:
    makefile = (LAYER / "Makefile").read_text(encoding="utf-8")
    parameters = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))["Parameters"]

    assert f",{parameters['Runtime']['Default']})" in makefile
    assert f",{parameters['Architecture']['Default']})" in makefile
