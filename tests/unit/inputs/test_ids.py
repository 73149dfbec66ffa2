"""Columns of ids: read from a table, passed on to the predictions, in front of whose lines they stand."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import BatchError
from lamella.inputs import read_batch
from lamella.inputs.ids import IdLines, checked_id, ids_to_bytes

PRINTING = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1).filter(
    lambda text: text[0] not in "=+-@\uff1d\uff0b\uff0d\uff20"
)


def test_a_csv_s_column_of_ids_is_no_feature() -> None:
    data = b'0,"the id",1\n1,a,2\n\n3,"b, c",4\n5,7,6\n'
    batch = read_batch(data, "a.csv", 2, id_column="the id")
    assert batch.matrix.toarray().T.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert batch.ids == ("a", "b, c", "7")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"a,b,c\n1,2,3\n", "has no column 'id' for ids: name one of its header's, 'a', 'b', 'c'"),
        ("a.csv", b"id,b,id\n1,2,3\n", "has 2 columns 'id': rename all but one"),
        ("a.csv", b"id,b,c\nx,2,3\ny,2\n", "line 3 has 2 columns, those before it 3"),
        ("a.csv", b"id,b,c\nx,2,3\ny,2,3,4\n", "line 3 has 4 columns, those before it 3"),
        ("a.csv", b"id,b,c\nx,2,3\n,2,3\n", "line 3: the id is empty: give every sample one"),
        ("a.csv", b"id,b,c\nx\ty,2,3\n", "line 2: the id .* has a character that does not print"),
        ("a.csv", b"id,b,c\nx,2,y\n", "line 2, column 3: 'y' is not a number"),
        ("a.csv", b"id,b\nx,2\n", "has 1 features a sample, the model takes 2"),
        ("a.csv", b"id\nx\n", "has a column of ids and no other"),
        ("a.csv", b"id,b,c\n", "has a header and no samples"),
        ("a.npy", b"1", "has no column 'id': ids are in a .csv or .parquet; leave id_column out"),
        ("a.tsv", b"1", "has no column 'id'"),
    ],
)
def test_refused_with_one_line(name: str, data: bytes, message: str) -> None:
    with pytest.raises(BatchError, match=message) as caught:
        read_batch(data, name, 2, id_column="id")
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+f()", "\uff1d1"])
def test_an_id_that_a_spreadsheet_would_run_is_refused(text: str) -> None:
    with pytest.raises(BatchError, match=r"a spreadsheet would take the id .* for a formula"):
        checked_id(text, "here")


@pytest.mark.parametrize("text", ["-5", "+49 171 (0) 55", "-1.5", "a=b", "x@y", "2026-11-24"])
def test_numbers_dates_and_telephones_are_ids(text: str) -> None:
    assert checked_id(text, "here") == text


def test_a_csv_without_ids_has_none() -> None:
    assert read_batch(b"1,2\n", "a.csv", 2).ids is None


@given(st.lists(PRINTING, min_size=1, max_size=20), st.data())
def test_ids_stand_before_the_lines_that_they_name(ids: list[str], data: st.DataObject) -> None:
    assert [checked_id(each, "here") for each in ids] == ids
    lines = [f"{k},0,0.5,1\n".encode() for k in range(len(ids))]
    cut = data.draw(st.integers(0, len(ids)))
    named = IdLines(ids_to_bytes(ids))
    text = (named.before(b"".join(lines[:cut])) + named.before(b"".join(lines[cut:]))).decode()
    assert list(csv.reader(io.StringIO(text))) == [
        [each, str(k), "0", "0.5", "1"] for k, each in enumerate(ids)
    ]
