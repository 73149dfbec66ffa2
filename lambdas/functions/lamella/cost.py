"""What usage costs, by dated price books: pure arithmetic over `lamella.usage`."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamella.errors import InputError
from lamella.usage import INVOKE, Count, Usage

Architecture = Literal["x86_64", "arm64"]
DEFAULT_BOOK = "us-east-1-2026-11"

_S3_PUT_TIER = ("put_", "copy_", "list_", "create_", "upload_", "complete_")
_SNS_PUBLISH = {"sns.publish", "sns.publish_batch"}


class Price(BaseModel):
    """US dollars for so many units, and who says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd: Annotated[float, Field(ge=0)]
    per: Annotated[float, Field(gt=0)]
    source: Annotated[str, Field(min_length=1)]

    def of(self, units: float) -> float:
        """Dollars for ``units``."""
        return self.usd * units / self.per


class Server(BaseModel):
    """A machine that somebody might run instead, by the hour."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    vcpus: int
    memory_gib: float
    hour: Price
    disk_gb: float


class PriceBook(BaseModel):
    """Prices of one region at one time; those that are None are not known.

    Attributes
    ----------
    also
        Regions with the same prices.
    servers
        What `lamella compare` sets beside a run: ``ec2`` and ``batch_transform``.
    serverless_gb_second, serverless_byte
        Of SageMaker Serverless Inference.
    lambda_gb_second
        By processor architecture.
    s3_put_request, s3_get_request
        The two tiers of requests: PUT, COPY, POST, LIST; and GET and all others.
    sns_request, sqs_request
        Of 64 KiB begun.
    sns_delivered_byte
        What a published byte costs on its way to a queue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    region: str
    looked_up: str
    note: str
    lambda_gb_second: dict[Architecture, Price]
    lambda_request: Price
    s3_put_request: Price
    s3_get_request: Price
    sns_request: Price
    sns_delivered_byte: Price
    sqs_request: Price
    stepfunctions_transition: Price
    also: tuple[str, ...] = ()
    s3_express_put_request: Price | None = None
    s3_express_get_request: Price | None = None
    s3_express_in_byte: Price | None = None
    s3_express_out_byte: Price | None = None
    servers: dict[str, Server] = Field(default_factory=dict)
    ebs_gb_month: Price | None = None
    serverless_gb_second: Price | None = None
    serverless_byte: Price | None = None


def book_names() -> tuple[str, ...]:
    """The price books that come with Lamella."""
    files = resources.files("lamella").joinpath("prices").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def load_book(name: str = DEFAULT_BOOK) -> PriceBook:
    """A price book by its name.

    Raises
    ------
    InputError
        If there is none of that name, or its file is damaged.
    """
    if name not in book_names():
        raise InputError(f"there is no price book {name!r}: use {', '.join(book_names())}")
    try:
        data = _read(name)
        like = data.pop("like", None)
        return PriceBook.model_validate((_read(like) if like else {}) | data)
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"price book {name!r} is damaged: {reason}: install Lamella again") from error


def architecture_of(machine: str) -> Architecture:
    """Lambda's name of a processor as `platform.machine` names it."""
    return "arm64" if machine in {"aarch64", "arm64"} else "x86_64"


def _read(name: str) -> dict[str, Any]:
    text = resources.files("lamella").joinpath("prices", f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def book_for(region: str) -> str:
    """Name of the latest book with a region's prices; that of us-east-1 where there is none."""
    names = [name for name in book_names() if name.startswith(f"{region}-")]
    others = [name for name in book_names() if region in load_book(name).also]
    return max(names or others or [DEFAULT_BOOK])


def cost(usage: Usage, book: PriceBook, architecture: Architecture = "x86_64") -> dict[str, float]:
    """Dollars by service (``lambda``, ``sns``, ``sqs``, ``s3``, ``stepfunctions``) and their ``total``.

    Services that a price book doesn't know cost nothing here; transfer within a region is free.
    """

    def of_lambda(name: str, count: Count) -> float:
        if name != INVOKE:
            return 0.0
        return book.lambda_gb_second[architecture].of(count.billed) + book.lambda_request.of(count.calls)

    def of_sns(name: str, count: Count) -> float:
        out_bytes = count.bytes if name in _SNS_PUBLISH else 0
        return book.sns_request.of(count.billed) + book.sns_delivered_byte.of(out_bytes)

    def of_s3(name: str, count: Count) -> float:
        put = name.partition(".")[2].startswith(_S3_PUT_TIER)
        return (book.s3_put_request if put else book.s3_get_request).of(count.billed)

    services: dict[str, Callable[[str, Count], float]] = {
        "lambda": of_lambda,
        "sns": of_sns,
        "sqs": lambda _, count: book.sqs_request.of(count.billed),
        "s3": of_s3,
        "stepfunctions": lambda _, count: book.stepfunctions_transition.of(count.billed),
    }
    dollars = dict.fromkeys(services, 0.0)
    for name, count in sorted(usage.counts.items()):
        service = name.partition(".")[0]
        if service in services:
            dollars[service] += services[service](name, count)
    return dollars | {"total": sum(dollars.values())}
