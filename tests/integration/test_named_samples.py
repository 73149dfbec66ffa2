"""Runs whose samples have ids: a table with a column of them, through the deployed stack."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import arro3.io
import numpy as np
import pytest
from arro3.core import Array, DataType, Table

from lamella import client
from lamella.client import Stack
from model_prep.blobs import digit_blobs
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration.runs import begin, outcome

SOURCE = "radixnet:64x3"
FEATURES, SAMPLES = 64, 50


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("named") / "model"
    write_model(open_source(SOURCE, bias=-0.1), path, workers=[2])
    return path


def parquet(path: Path, values: Any, ids: list[str]) -> Path:
    columns = {str(k): Array.from_numpy(np.ascontiguousarray(values[:, k])) for k in range(FEATURES)}
    stream = io.BytesIO()
    table = Table.from_pydict({"name": Array(ids, DataType.string()), **columns})
    arro3.io.write_parquet(table, stream, compression="snappy", max_row_group_size=16)
    path.write_bytes(stream.getvalue())
    return path


def comma_separated(path: Path, values: Any, ids: list[str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*range(FEATURES), "name"])
        writer.writerows([*row, name] for row, name in zip(values.tolist(), ids, strict=True))
    return path


@pytest.mark.parametrize("written", [parquet, comma_separated])
def test_predictions_begin_with_the_ids_of_the_input(
    stack: Stack, model: Path, tmp_path: Path, written: Any
) -> None:
    matrix = digit_blobs(SAMPLES, 8, 3)
    ids = [f"image {k}, {'odd' if k % 2 else 'even'}" for k in range(SAMPLES)]
    batch = written(tmp_path / f"batch.{'parquet' if written is parquet else 'csv'}", matrix.toarray(), ids)
    handle = begin(stack, model, batch, strategy="rows", workers=2, id_column="name")
    client.watch(handle, poll_s=0.05)
    client.fetch(handle, tmp_path / "out")

    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    plain = plain_scipy(open_source(SOURCE, bias=-0.1), matrix)
    assert list(rows[0]) == ["id", "sample", "argmax", "score", "nonzero"]
    assert [row["id"] for row in rows] == ids
    assert [int(row["sample"]) for row in rows] == list(range(SAMPLES))
    assert [int(row["argmax"]) for row in rows] == plain.argmax(axis=1).tolist()


def test_a_damaged_parquet_fails_the_run_with_the_reader_s_own_line(
    stack: Stack, model: Path, tmp_path: Path
) -> None:
    batch = parquet(tmp_path / "batch.parquet", digit_blobs(SAMPLES, 8, 3).toarray(), ["x"] * SAMPLES)
    data = bytearray(batch.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2 - 4) + b"PAR1"
    batch.write_bytes(data)
    handle = begin(stack, model, batch, strategy="serial", id_column="name")
    ended = outcome(handle)
    assert ended["status"] == "FAILED"
    assert "batch.parquet can't be decoded as .parquet" in ended["cause"]
