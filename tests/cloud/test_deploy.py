"""Deploying SAM templates."""

from __future__ import annotations

import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import Sample
from tests.cloud.helpers import RUNTIME, SAMPLE, invoke
from workflows.embedded_cloud import EmbeddedCloud, EmbeddedCloudError, delete, deploy
from workflows.embedded_cloud.packaging import BuildTarget, archive_folder, tree_digest


def write_template(folder: Path, body: str, handler: str = "def handler(e, c): return 1\n") -> Path:
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "app.py").write_text(handler)
    template = folder / "template.yaml"
    template.write_text(body)
    return template


FUNCTION = f"""
Transform: AWS::Serverless-2016-10-31
Parameters:
  Size: {{Type: Number, Default: 128}}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: code, Handler: app.handler, Runtime: {RUNTIME}, MemorySize: !Ref Size}}
Outputs:
  Name: {{Value: !Ref F}}
"""


def test_outputs(sample: Sample) -> None:
    outputs = sample.outputs
    assert outputs["KindCount"] == "red-green"
    assert outputs["QueueUrlred"].endswith("/sample-red")
    assert outputs["QueueUrlgreen"].endswith("/sample-green")
    assert outputs["MachineArn"].endswith(":stateMachine:sample-machine")


def test_update_changes_code_and_configuration(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    template = write_template(tmp_path, FUNCTION)
    first = deploy(cloud.endpoint_url, template, "update", {}, cache_dir=tmp_path / "cache")
    assert invoke(cloud, first["Name"])[0] == 1
    write_template(tmp_path, FUNCTION, "def handler(e, c): return c.memory_limit_in_mb\n")
    second = deploy(cloud.endpoint_url, template, "update", {"Size": "192"}, cache_dir=tmp_path / "cache")
    assert second["Name"] == first["Name"]
    assert int(invoke(cloud, second["Name"])[0]) == 192
    assert (
        deploy(cloud.endpoint_url, template, "update", {"Size": "192"}, cache_dir=tmp_path / "cache")
        == second
    )
    delete(cloud.endpoint_url, "update")
    names = [each["FunctionName"] for each in cloud.client("lambda").list_functions()["Functions"]]
    assert first["Name"] not in names
    delete(cloud.endpoint_url, "update")


def test_loops_over_a_parameter(cloud: EmbeddedCloud, cache_dir: Path) -> None:
    parameters = {"Runtime": RUNTIME, "Kinds": "one,two,three", "Prefix": "loops", "Keep": "yes"}
    outputs = deploy(cloud.endpoint_url, SAMPLE / "template.yaml", "loops", parameters, cache_dir=cache_dir)
    assert {"QueueUrlone", "QueueUrltwo", "QueueUrlthree"} <= set(outputs)
    answer, _ = invoke(cloud, outputs["WorkerName"], {"environment": True})
    assert answer["environment"]["GREETING"] == "kept"


@pytest.mark.parametrize(
    ("body", "parameters", "reason"),
    [
        (FUNCTION, {"Nope": "1"}, "Nope.*do not exist in the template"),
        (FUNCTION.replace("code,", "missing,"), {}, "F: no such folder: .*missing"),
        (FUNCTION.replace(RUNTIME, "python3.99"), {}, "F .*python3.99.*no Python 3.99 runs on this machine"),
        (FUNCTION.replace(RUNTIME, "nodejs22.x"), {}, "python3.x runtimes only"),
        (FUNCTION.replace("Handler: app.handler, ", ""), {}, "Handler"),
        (FUNCTION.replace("AWS::Serverless::Function", "AWS::Serverless::Nothing"), {}, "F.*is invalid"),
        (FUNCTION.replace("{Value: !Ref F}", "{Value: !GetAtt Nothing.Arn}"), {}, "refused"),
        ("a: [", {}, "not YAML"),
        ("Resources: []", {}, "At least one Resources member"),
    ],
)
def test_reasons(
    cloud: EmbeddedCloud, tmp_path: Path, body: str, parameters: dict[str, str], reason: str
) -> None:
    template = write_template(tmp_path, body)
    with pytest.raises(EmbeddedCloudError, match=f"(?s){reason}"):
        deploy(
            cloud.endpoint_url,
            template,
            f"reasons-{uuid.uuid4().hex[:8]}",
            parameters,
            cache_dir=tmp_path / "cache",
        )


def test_a_failed_stack_can_be_deployed_again(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    broken = FUNCTION.replace(RUNTIME, "python3.99")
    with pytest.raises(EmbeddedCloudError, match="ROLLBACK_COMPLETE"):
        deploy(
            cloud.endpoint_url, write_template(tmp_path, broken), "again", {}, cache_dir=tmp_path / "cache"
        )
    outputs = deploy(
        cloud.endpoint_url, write_template(tmp_path, FUNCTION), "again", {}, cache_dir=tmp_path / "cache"
    )
    assert invoke(cloud, outputs["Name"])[0] == 1


def layer_target(**changes: Any) -> BuildTarget:
    settings = {"logical_id": "L", "method": "makefile", "runtime": RUNTIME, "architecture": "x86_64"}
    return BuildTarget(**{**settings, "is_layer": True, **changes})


def make_layer(folder: Path) -> Path:
    folder.mkdir()
    (folder / "Makefile").write_text(
        'build-L:\n\tmkdir -p "$(ARTIFACTS_DIR)/python"\n'
        '\techo "$(LAMBDA_RUNTIME) $(LAMBDA_ARCHITECTURE)" > "$(ARTIFACTS_DIR)/python/built.txt"\n'
        f"\techo x >> {folder.parent}/count\n"
    )
    return folder


def test_makefile_layer_is_built_once_per_content_runtime_and_architecture(tmp_path: Path) -> None:
    folder, cache = make_layer(tmp_path / "layer"), tmp_path / "cache"
    first = archive_folder(folder, layer_target(), cache)
    assert archive_folder(folder, layer_target(), cache) == first
    count = tmp_path / "count"
    assert count.read_text().count("x") == 1
    assert archive_folder(folder, layer_target(architecture="arm64"), cache) != first
    assert archive_folder(folder, layer_target(runtime="python3.99"), cache) != first
    (folder / "new.txt").write_text("changed")
    assert archive_folder(folder, layer_target(), cache) != first
    assert count.read_text().count("x") == 4
    assert zipfile.ZipFile(first).read("python/built.txt").decode() == f"{RUNTIME} x86_64\n"


def test_failed_build_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "layer"
    folder.mkdir()
    (folder / "Makefile").write_text("build-L:\n\techo broken wheel >&2; exit 3\n")
    with pytest.raises(EmbeddedCloudError, match=r"(?s)L: `make .*build-L` in .* failed:.*broken wheel"):
        archive_folder(folder, layer_target(), tmp_path / "cache")


def test_archives_are_deterministic(tmp_path: Path) -> None:
    archives = []
    for name in ("a", "b"):
        folder = tmp_path / name
        (folder / "package" / "__pycache__").mkdir(parents=True)
        (folder / "package" / "__pycache__" / "x.pyc").write_bytes(name.encode())
        (folder / "package" / "x.py").write_text("x = 1\n")
        (folder / "run.sh").write_text("exit\n")
        (folder / "run.sh").chmod(0o755)
        target = layer_target(method=None)
        archives.append(archive_folder(folder, target, tmp_path / f"cache-{name}"))
        assert tree_digest(folder) == archives[-1].stem
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as opened:
        assert sorted(opened.namelist()) == ["package/x.py", "run.sh"]
        assert opened.getinfo("run.sh").external_attr >> 16 & 0o111
