"""Price books."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lamella
from lamella.cost import DEFAULT_BOOK, Architecture, PriceBook, book_names, cost, load_book
from lamella.errors import InputError
from lamella.usage import Count, Usage, lambda_usage, step_functions_usage

FSD_PAPER = Path(
    os.environ.get("LAMELLA_FSD_PAPER", Path(__file__).resolve().parents[3] / "shared" / "data" / "fsd-paper")
)
MILLION = 1_000_000

# arXiv 2403.15195: three configurations of its measurements, with the totals it prints.
QUEUE_8 = {
    "workers": "8",
    "lambda_mb": "1000",
    "lambda_seconds_all_workers": "568.61206",
    "sns_publish_calls": "1102",
    "sns_publish_billed": "2204",
    "bytes_sent": "104131260",
    "sqs_receive_calls": "4318",
    "bytes_received": "104131260",
    "total_usd": "0.021532",
}
QUEUE_62 = {
    "workers": "62",
    "lambda_mb": "4000",
    "lambda_seconds_all_workers": "18514.275",
    "sns_publish_calls": "62780",
    "sns_publish_billed": "188340",
    "bytes_sent": "11081539000",
    "sqs_receive_calls": "77804",
    "bytes_received": "11081898000",
    "total_usd": "2.337642",
}
OBJECT_8 = {
    "workers": "8",
    "lambda_mb": "1000",
    "lambda_seconds_all_workers": "514.65564",
    "s3_puts": "6452",
    "s3_gets": "6450",
    "s3_lists": "1615",
    "bytes_written": "240694300",
    "bytes_read": "240694370",
    "total_usd": "0.053909",
}


def usage_of(row: dict[str, str]) -> Usage:
    """What a row of the paper's measurements counts; one more function than workers was invoked."""
    gb_seconds = float(row["lambda_seconds_all_workers"]) * int(row["lambda_mb"]) / 1024
    counts = {"lambda.invoke": Count(int(row["workers"]) + 1, gb_seconds, 0)}
    if "sns_publish_calls" in row:
        calls, billed = int(row["sns_publish_calls"]), int(row["sns_publish_billed"])
        received = int(row["sqs_receive_calls"])
        counts["sns.publish_batch"] = Count(calls, billed, int(row["bytes_sent"]))
        counts["sqs.receive_message"] = Count(received, received, int(row["bytes_received"]))
    else:
        puts, gets, lists = (int(row[name]) for name in ("s3_puts", "s3_gets", "s3_lists"))
        counts["s3.put_object"] = Count(puts, puts, int(row["bytes_written"]))
        counts["s3.get_object"] = Count(gets, gets, int(row["bytes_read"]))
        counts["s3.list_objects_v2"] = Count(lists, lists, 0)
    return Usage(counts)


@pytest.mark.parametrize("row", [QUEUE_8, QUEUE_62, OBJECT_8])
def test_the_papers_book_gives_its_totals(row: dict[str, str]) -> None:
    total = cost(usage_of(row), load_book("paper"))["total"]
    assert total == pytest.approx(float(row["total_usd"]), abs=1e-6)


@pytest.mark.skipif(not FSD_PAPER.exists(), reason=f"the paper's measurements are not at {FSD_PAPER}")
@pytest.mark.parametrize(("file", "costed"), [("queue.csv", 15), ("object.csv", 17)])
def test_every_costed_row_of_the_paper(file: str, costed: int) -> None:
    with (FSD_PAPER / file).open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["total_usd"]]
    assert len(rows) == costed
    for row in rows:
        paid = cost(usage_of(row), load_book("paper"))
        assert paid["total"] == pytest.approx(float(row["total_usd"]), rel=1e-4), row["config"]
        for service in ("lambda", "sns", "sqs", "s3"):
            if f"{service}_usd" in row:
                assert paid[service] == pytest.approx(float(row[f"{service}_usd"]), rel=1e-5), row["config"]


@pytest.mark.parametrize(
    ("operation", "count", "service", "usd"),
    [
        ("lambda.invoke", Count(MILLION, 0, 0), "lambda", 0.20),
        ("lambda.invoke", Count(0, MILLION, 0), "lambda", 16.6667),
        ("lambda.list_functions", Count(MILLION, 0, 0), "lambda", 0),
        ("stepfunctions.transition", Count(MILLION, MILLION, 0), "stepfunctions", 25),
        ("stepfunctions.describe_execution", Count(MILLION, 0, 0), "stepfunctions", 0),
        ("sns.publish", Count(1, MILLION, 2**40), "sns", 0.50),
        ("sns.publish_batch", Count(1, MILLION, 2**40), "sns", 0.50),
        ("sqs.receive_message", Count(1, MILLION, 0), "sqs", 0.40),
        ("sqs.delete_message_batch", Count(1, MILLION, 0), "sqs", 0.40),
        ("s3.put_object", Count(MILLION, MILLION, 0), "s3", 5),
        ("s3.copy_object", Count(MILLION, MILLION, 0), "s3", 5),
        ("s3.list_objects_v2", Count(MILLION, MILLION, 0), "s3", 5),
        ("s3.create_multipart_upload", Count(MILLION, MILLION, 0), "s3", 5),
        ("s3.upload_part", Count(MILLION, MILLION, 0), "s3", 5),
        ("s3.get_object", Count(MILLION, MILLION, 0), "s3", 0.40),
        ("s3.head_object", Count(MILLION, MILLION, 0), "s3", 0.40),
        ("s3.delete_object", Count(MILLION, 0, 0), "s3", 0),
    ],
)
def test_list_prices(operation: str, count: Count, service: str, usd: float) -> None:
    paid = cost(Usage({operation: count}), load_book("us-east-1-2026-11"))
    assert paid[service] == pytest.approx(usd, rel=1e-12)
    assert paid["total"] == paid[service]
    assert list(paid) == ["lambda", "sns", "sqs", "s3", "stepfunctions", "total"]


def test_arm_is_cheaper() -> None:
    usage = lambda_usage(1000, 1024)
    prices: list[Architecture] = ["x86_64", "arm64"]
    x86, arm = (cost(usage, load_book(), architecture)["lambda"] for architecture in prices)
    assert arm == pytest.approx(0.0133334 + 2e-7)
    assert x86 == pytest.approx(0.0166667 + 2e-7)


def test_costs_add_up() -> None:
    a, b = usage_of(QUEUE_8), usage_of(OBJECT_8) + step_functions_usage(8)
    book = load_book()
    both = cost(a + b, book)
    for service, usd in both.items():
        assert usd == pytest.approx(cost(a, book)[service] + cost(b, book)[service])
    assert both["total"] == pytest.approx(sum(usd for service, usd in both.items() if service != "total"))
    assert cost(Usage(), book)["total"] == 0


def test_every_price_says_where_it_is_from() -> None:
    assert DEFAULT_BOOK in book_names()
    for name in book_names():
        book = load_book(name)
        assert book.name == name
        assert set(book.lambda_gb_second) == {"x86_64", "arm64"}
        assert book.looked_up[:2] == "20"


def test_books_come_with_an_unpacked_function(tmp_path: Path) -> None:
    package = Path(lamella.__file__).parent
    shutil.copytree(package, tmp_path / "lamella", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import lamella.cost as c; print(c.__file__, *(c.load_book(name).name for name in c.book_names()))"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert said == [str(tmp_path / "lamella" / "cost.py"), *book_names()]


def test_an_unknown_book() -> None:
    with pytest.raises(InputError, match=r"no price book '\.\./paper': use .*paper, us-east-1-2026-11"):
        load_book("../paper")


def test_a_book_with_an_unknown_price_is_refused() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        PriceBook.model_validate(load_book().model_dump() | {"sns_publsh": 1})
