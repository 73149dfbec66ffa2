"""What `sam build` made is measured with its layers, and refused where Lambda would refuse it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows import built_sizes

TEMPLATE = """
Globals:
  Function: {Layers: [!Ref Shared]}
Resources:
  Shared: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: Shared}}
  Own: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: Own}}
  Small: {Type: AWS::Serverless::Function, Properties: {CodeUri: Small}}
  Large: {Type: AWS::Serverless::Function, Properties: {CodeUri: Large, Layers: [!Ref Own]}}
  Bucket: {Type: AWS::S3::Bucket}
  Fn::ForEach::Queues: [Name, [a, b], {"Queue${Name}": {Type: AWS::SQS::Queue}}]
"""
MIB = 1 << 20
SIZES = {"Shared": 150 * MIB, "Own": 80 * MIB, "Small": 5 * MIB, "Large": 5 * MIB}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder like SAM CLI's, its files of these sizes but without content."""
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    for name, size in SIZES.items():
        (tmp_path / name / "python").mkdir(parents=True)
        with (tmp_path / name / "python" / "file").open("wb") as file:
            file.truncate(size)
    return tmp_path


def test_functions_are_measured_with_their_layers(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = built_sizes.built_functions(built)
    assert (small.layers, small.total_bytes) == ({"Shared": 150 * MIB}, 155 * MIB)
    assert (large.layers, large.total_bytes) == ({"Shared": 150 * MIB, "Own": 80 * MIB}, 235 * MIB)
    assert built_sizes.main([str(built)]) == 0
    assert (
        "Large: 5.0 + Own 80.0 + Shared 150.0 = 235.0 MiB unzipped, of Lambda's 250"
        in capsys.readouterr().out
    )


def test_what_has_no_room_left_is_refused(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (built / "Own" / "more").open("wb") as file:
        file.truncate(6 * MIB)
    assert built_sizes.main([str(built)]) == 1
    assert "too large, with 10 MiB to spare: Large" in capsys.readouterr().err


def test_a_folder_without_a_build_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert built_sizes.main([str(tmp_path)]) == 2
    assert "run sam build first" in capsys.readouterr().err
