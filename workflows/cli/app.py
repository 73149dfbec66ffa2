"""The command ``lamella``: its commands, and how every error reaches the user as one line."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from lamella.errors import LamellaError
from workflows.cli import calibrate, compare, demo, history, local, plan, prep, prices, run, upkeep
from workflows.cli.console import plain_line
from workflows.cli.state import state_directory

INTERRUPTED = 130


class OneLineErrors(TyperGroup):
    """A command group that tells every error in one line on stderr, and exits with its code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                given or ["--help"], "lamella", complete_var, False, windows_expand_args, **extra
            )
        except LamellaError as error:
            code = _tell(str(error), error.exit_code)
        except typer.TyperException as error:
            code = _tell(_usage(error), error.exit_code)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except BrokenPipeError:
            # Whoever read stdout has gone; nothing more can be said to them.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
            code = 1
        except Exception as error:
            code = _tell(_unexpected(error), 1)
        if code == INTERRUPTED:
            sys.stderr.write("stopped\n")
        sys.exit(code if isinstance(code, int) else 0)


def build() -> typer.Typer:
    """The command with all its subcommands."""
    app = typer.Typer(
        name="lamella",
        cls=OneLineErrors,
        help="Fully serverless distributed inference on AWS Lambda, Step Functions, SNS, SQS and S3.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(prep.prep)
    app.command()(plan.plan)
    app.command()(run.run)
    app.command()(local.local)
    app.command()(history.runs)
    app.command()(history.fetch)
    app.command()(upkeep.cancel)
    app.command()(upkeep.clean)
    app.command()(compare.compare)
    app.command()(prices.prices)
    app.command()(calibrate.calibrate)
    app.command()(history.report)
    app.command()(demo.demo)
    return app


def main() -> None:
    """Entry point of the command."""
    # A terminal that closes, or a supervisor, ends a command as Ctrl-C does: runs and clouds are stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    build()()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(text: str, code: int) -> int:
    sys.stderr.write(f"error: {plain_line(text)}\n")
    if os.environ.get("LAMELLA_DEBUG") == "1":
        traceback.print_exc()
    return code


def _usage(error: typer.TyperException) -> str:
    """One line about a command line that can't be read, and where its help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "lamella"
    text = error.format_message().rstrip(".")
    return f"{text[:1].lower()}{text[1:]} (see '{command} --help')"


def _unexpected(error: Exception) -> str:
    """One line about an error that nobody foresaw, whose traceback is kept in a file."""
    what = f"unexpected {type(error).__name__}: {error}"
    path = state_directory() / "last-error.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)))
    except OSError:
        return f"{what} (for the traceback, set LAMELLA_DEBUG=1)"
    return f"{what} (traceback: {path})"
