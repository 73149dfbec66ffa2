"""How much of Lambda's limit on unzipped code each function that `sam build` made takes, with its layers.

``python -m workflows.built_sizes [FOLDER]``; exit code 1 where one takes more than there is room for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from lamella.errors import InputError, LamellaError

BUILT = Path(".aws-sam/build")
LIMIT_BYTES = 262_144_000
"""docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 250 MB unzipped, with all layers."""
ROOM_BYTES = 10 << 20
"""Left free: what a later release of a package may grow by."""

_MIB = 1 << 20


@dataclass(frozen=True)
class BuiltFunction:
    """One function as it was built.

    Attributes
    ----------
    code_bytes
        Its own files, unzipped.
    layers
        Unzipped bytes of each of its layers, by logical id.
    """

    logical_id: str
    code_bytes: int
    layers: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """What Lambda holds against its limit."""
        return self.code_bytes + sum(self.layers.values())

    @property
    def fits(self) -> bool:
        """Whether it is under the limit, with room."""
        return self.total_bytes <= LIMIT_BYTES - ROOM_BYTES

    def __str__(self) -> str:
        layers = "".join(f" + {name} {size / _MIB:.1f}" for name, size in sorted(self.layers.items()))
        return (
            f"{self.logical_id}: {self.code_bytes / _MIB:.1f}{layers} = "
            f"{self.total_bytes / _MIB:.1f} MiB unzipped, of Lambda's {LIMIT_BYTES / _MIB:.0f}"
        )


def built_functions(folder: Path) -> list[BuiltFunction]:
    """Measure what `sam build` left in a folder.

    Raises
    ------
    InputError
        If nothing was built there.
    """
    try:
        document = yaml_parse((folder / "template.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder} holds no built template ({error.strerror}): run sam build first"
        ) from error
    resources: dict[str, Any] = dict(_resources(document["Resources"]))
    shared = document.get("Globals", {}).get("Function", {})
    layers = {
        name: size_bytes(folder / resource["Properties"]["ContentUri"])
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::LayerVersion"
    }
    found = []
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Serverless::Function":
            own = resource["Properties"]
            used = [*shared.get("Layers", []), *own.get("Layers", [])]
            names = [str(layer["Ref"]) for layer in used if isinstance(layer, dict) and "Ref" in layer]
            code = size_bytes(folder / (own.get("CodeUri") or shared["CodeUri"]))
            found.append(BuiltFunction(name, code, {each: layers[each] for each in names if each in layers}))
    return found


def size_bytes(folder: Path) -> int:
    """Sum of the sizes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _resources(members: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Resources that are not in loops: what is built for each round of one has a name of its own."""
    for name, member in members.items():
        if isinstance(member, dict):
            yield name, member


def main(arguments: Sequence[str] | None = None) -> int:
    """Say the size of each function; the exit code tells whether all fit."""
    parser = argparse.ArgumentParser(prog="python -m workflows.built_sizes", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=BUILT)
    try:
        functions = built_functions(parser.parse_args(arguments).folder)
    except LamellaError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.writelines(f"{function}\n" for function in functions)
    too_large = [function.logical_id for function in functions if not function.fits]
    if too_large:
        sys.stderr.write(f"too large, with {ROOM_BYTES / _MIB:.0f} MiB to spare: {', '.join(too_large)}\n")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
