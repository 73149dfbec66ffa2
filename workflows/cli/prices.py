"""``lamella prices``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table

from lamella.cost import Price, PriceBook, book_for, book_names, load_book
from workflows.cli.console import Output
from workflows.cli.tables import pairs


def prices(
    region: Annotated[str, typer.Option(help="Whose prices.")] = "us-east-1",
    book: Annotated[str | None, typer.Option(metavar="NAME", help="One book, by its name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the prices that costs are computed with, their date and their sources."""
    found = load_book(book or book_for(region))
    head = [("looked up", found.looked_up), ("region", ", ".join((found.region, *found.also)))]
    head += [("note", found.note), ("other books", ", ".join(n for n in book_names() if n != found.name))]
    table = Table(box=None, header_style="dim")
    for name in ("price", "USD", "for", "source"):
        table.add_column(name, justify="right" if name in {"USD", "for"} else "left", overflow="fold")
    for name, price in named(found):
        table.add_row(name, f"{price.usd:.10g}", f"{price.per:,.10g}", price.source)
    Output(json).result(found.model_dump(mode="json"), pairs(f"price book {found.name}", head), table)


def named(book: PriceBook) -> Iterator[tuple[str, Price]]:
    """Every price of a book, by its place."""
    for name in PriceBook.model_fields:
        value = getattr(book, name)
        if isinstance(value, Price):
            yield name, value
        elif name == "lambda_gb_second":
            yield from ((f"{name}, {architecture}", price) for architecture, price in value.items())
        elif name == "servers":
            yield from ((f"{kind}: {server.type}, an hour", server.hour) for kind, server in value.items())
