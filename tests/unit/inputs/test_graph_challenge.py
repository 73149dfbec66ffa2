"""Graph Challenge images."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import BatchError
from lamella.inputs import graph_challenge, read_batch

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "graph-challenge"
IMAGES = Path(os.environ.get("LAMELLA_GRAPH_CHALLENGE", SHARED)) / "sparse-images-1024.first10000.tsv.gz"


def test_numbers_count_from_one() -> None:
    batch = read_batch(b"1\t2\t1\n3\t1\t7\n", "a.tsv", 2, None)
    assert batch.first == 1
    assert batch.matrix.toarray().tolist() == [[0, 0, 7], [1, 0, 0]]
    assert batch.matrix.values.dtype == np.float32


@pytest.mark.parametrize(
    "text",
    [
        b"1\t2\t0.5\n2\t1\t3e0",
        b"1\t2\t.5\r\n2\t1\t3\r\n",
        b"1 2 0.5\n\n2  1  3.0\n\n",
        b"2\t1\t+3\n1\t2\t5e-1\n",
        b"1\t2\t0.5\n2\t1\t3\n2\t2\t0\n",
    ],
)
def test_every_way_to_write_the_same(text: bytes) -> None:
    batch = read_batch(text, "a.tsv", 2, None)
    assert batch.matrix.toarray().tolist() == [[0, 3], [0.5, 0]]
    assert batch.matrix.nnz == 2


def test_samples_that_no_line_names() -> None:
    assert read_batch(b"1\t1\t1\n", "a.tsv", 4, 5).samples == 5
    with pytest.raises(BatchError, match="line 1 names sample 6: use numbers from 1 to 5"):
        read_batch(b"6\t1\t1\n", "a.tsv", 4, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1\t1\t1\n1\t2\n", "line 2: '1 2' is no sample, feature and value"),
        (b"1\t1\t1\n\n1\t2\tx\n", "line 3: '1 2 x' is no"),
        (b"1\t1\t1\t1\t1\t1\n", "line 1: '1 1 1 1 1 1' is no"),
        (b"1.5\t1\t1\n", "line 1: '1.5 1 1' is no"),
        (b"1_0\t1\t1\n", "line 1: '1_0 1 1' is no"),
        (b"1\t1\t1\n0\t1\t1\n", "line 2 names sample 0: use numbers from 1 to 16,777,216"),
        (b"-1\t1\t1\n", "line 1 names sample -1"),
        (b"16777217\t1\t1\n", "line 1 names sample 16,777,217"),
        (b"18446744073709551617\t1\t1\n", "line 1 names sample 18,446,744,073,709,551,617"),
        (b"1\t0\t1\n", "line 1 names feature 0: the model takes features 1 to 1,024"),
        (
            b"1\t1\t1\n" * 0 + b"2\t2000\t1\n",
            "line 1 names feature 2,000: the model takes features 1 to 1,024",
        ),
        (b"2\t3\tnan\n", "sample 2, feature 3: nan is not a finite number"),
        (b"2\t3\t-inf\n", "sample 2, feature 3: -inf is not a finite number"),
        (b"2\t3\t1e39\n", "sample 2, feature 3: 1e[+]39 is too large for float32"),
        (b"2\t3\t1\n1\t1\t1\n2\t3\t1\n", "names sample 2, feature 3 more than once"),
        (b"\n \n", "is empty"),
        (b"", "is empty"),
        (b"\x00\xff\tabc", "line 1"),
    ],
)
def test_refused_with_the_place(text: bytes, message: str) -> None:
    with pytest.raises(BatchError, match=message) as caught:
        read_batch(text, "images.tsv", 1024, None)
    assert str(caught.value).startswith("images.tsv")
    assert "\n" not in str(caught.value)


def test_line_numbers_run_through_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_challenge, "_PIECE_BYTES", 64)
    lines = [b"%d\t%d\t%d" % (i // 9 + 1, i % 9 + 1, i + 1) for i in range(900)]
    batch = read_batch(b"\n".join(lines), "a.tsv", 9, None)
    assert batch.matrix.toarray().T.ravel().tolist() == list(range(1, 901))
    packed = gzip.compress(b"\n".join(lines[:500]) + b"\n") + gzip.compress(b"\n".join(lines[500:]))
    unpacked = read_batch(packed, "a.tsv.gz", 9, None)
    assert unpacked.matrix.toarray().tolist() == batch.matrix.toarray().tolist()
    with pytest.raises(BatchError, match="names sample 1, feature 2 more than once"):
        read_batch(b"\n".join([*lines, lines[1]]), "a.tsv", 9, None)
    lines[777] = b"1\t1"
    with pytest.raises(BatchError, match="line 778"):
        read_batch(gzip.compress(b"\n".join(lines)), "a.tsv.gz", 9, None)


def test_a_line_that_never_ends_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_challenge, "_PIECE_BYTES", 64)
    with pytest.raises(BatchError, match="line 1"):
        read_batch(gzip.compress(b"7" * 10_000), "a.tsv.gz", 9, None)
    gathered = next(graph_challenge._whole_lines(graph_challenge._pieces(b"7" * 10_000, 64)))
    assert len(gathered) == 128


def test_damaged_gzip() -> None:
    text = b"".join(b"%d\t1\t1\n" % i for i in range(1, 2000))
    packed = gzip.compress(text, mtime=0)
    assert read_batch(packed + bytes(512), "a.tsv.gz", 1, None).samples == 1999
    with pytest.raises(BatchError, match=r"a\.tsv\.gz ends in the middle of its gzip stream"):
        read_batch(packed[:-12], "a.tsv.gz", 1, None)
    for broken in (text, packed + b"more", packed[:-6] + b"xxxxxx", packed[:20] + b"\xff" * 20 + packed[40:]):
        with pytest.raises(BatchError, match="is no sound gzip file"):
            read_batch(broken, "a.tsv.gz", 1, None)


def test_a_gzip_may_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_challenge, "MAX_BYTES", 10_000)
    with pytest.raises(BatchError, match="unpacks to more than 2 GiB"):
        read_batch(gzip.compress(b"1\t1\t1\n" + b"\n" * 20_000), "a.tsv.gz", 1, None)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 40), st.integers(1, 12)),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        min_size=1,
    )
)
def test_any_entries_are_read_exactly(entries: dict[tuple[int, int], float]) -> None:
    text = "".join(f"{sample}\t{feature}\t{value!r}\n" for (sample, feature), value in entries.items())
    dense = read_batch(text.encode(), "a.tsv", 12, 40).matrix.toarray()
    expected = np.zeros((12, 40), np.float32)
    for (sample, feature), value in entries.items():
        expected[feature - 1, sample - 1] = value
    assert (dense == expected).all()


@settings(deadline=None)
@given(st.text(st.sampled_from("019\t\n. -e"), max_size=60))
def test_plain_lines_mean_the_same_to_both_parsers(text: str) -> None:
    data = text.encode()
    fast = graph_challenge._parse_plain(data)
    if fast is not None:
        slow = graph_challenge._parse_lines(data, 1, "a", 10**9, 10**9) if fast.samples.all() else None
        if slow is not None and fast.features.all():
            assert fast.samples.tolist() == slow.samples.tolist()
            assert fast.features.tolist() == slow.features.tolist()
            assert fast.values.tolist() == slow.values.tolist()


@pytest.mark.skipif(not IMAGES.exists(), reason=f"the official images are not at {IMAGES}")
def test_official_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # A million plain lines are not read one by one: that takes ten times as long.
    monkeypatch.delattr(graph_challenge, "_parse_lines")
    data = IMAGES.read_bytes()
    batch = read_batch(data, IMAGES.name, 1024, None)
    assert (batch.samples, batch.features, batch.matrix.nnz) == (10_000, 1024, 1_067_804)
    lines = np.fromstring(gzip.decompress(data).decode(), np.int64, sep="\t").reshape(-1, 3)
    expected = np.zeros((1024, 10_000), np.float32)
    expected[lines[:, 1] - 1, lines[:, 0] - 1] = lines[:, 2]
    assert (batch.matrix.toarray() == expected).all()
