"""Which inputs are new, and what the run of each is called: pure.

An input is the content of one object: bucket, key and ETag. The same object overwritten is another input; the
same content put there again is the same one, but for encryption with a KMS key, under which S3 gives every
upload an ETag of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass

from lamella.errors import BatchError, InputError
from lamella.events import RunRequest, parse_request
from lamella.inputs import known_suffix
from lamella.layout import INTAKE

# Of a run's name, which has 80 characters at most (API reference, StartExecution).
READABLE_CHARACTERS = 40
HASH_CHARACTERS = 24
_GIVEN_BY_INTAKE = ("model", "input")


@dataclass(frozen=True)
class InputObject:
    """An object of the bucket.

    Attributes
    ----------
    etag
        Without the quotes that S3's API puts around it.
    modified_s
        When it was put there, Unix time.
    """

    bucket: str
    key: str
    etag: str
    modified_s: float = 0.0

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def run(self) -> str:
        """The name of this input's run: the same whoever computes it, and no other input's."""
        name = self.key.rpartition("/")[2]
        if is_batch(name):
            name = name[: -len(known_suffix(name))]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:READABLE_CHARACTERS].strip("-")
        identity = json.dumps([self.bucket, self.key, self.etag]).encode()
        return f"{readable or 'input'}-{hashlib.sha256(identity).hexdigest()[:HASH_CHARACTERS]}"

    @property
    def mark(self) -> str:
        """Key of the mark that says it was started."""
        return f"{INTAKE}{self.run}"


def is_batch(key: str) -> bool:
    """Whether a key names samples, and not a folder or some other file.

    One with a line break is no batch either: a run's request can't name it.
    """
    if key.endswith("/") or "\n" in key:
        return False
    try:
        known_suffix(key)
    except BatchError:
        return False
    return True


def waiting(found: Iterable[InputObject], marks: Set[str]) -> list[InputObject]:
    """Batches that have no mark, the oldest first."""
    new = (item for item in found if is_batch(item.key) and item.mark not in marks)
    return sorted(new, key=lambda item: (item.modified_s, item.key))


def automatic_request(model: str, options: str, uri: str) -> RunRequest:
    """What a run is asked for that nobody starts by hand.

    Parameters
    ----------
    model, options
        The template's parameters AutoModel and AutoOptions.

    Raises
    ------
    InputError
        If a parameter is not right.
    """
    if not model:
        raise InputError("no run starts by itself without a model: deploy with the parameter AutoModel")
    try:
        fields = json.loads(options)
    except ValueError as error:
        raise InputError(f"AutoOptions is no JSON ({error}): deploy with an object such as {{}}") from error
    if not isinstance(fields, dict):
        raise InputError(f"AutoOptions is {options}: deploy with a JSON object, {{}} for none")
    for name in _GIVEN_BY_INTAKE:
        if name in fields:
            raise InputError(f"AutoOptions can't have {name!r}: AutoModel and each input give it")
    return parse_request(fields | {"model": model, "input": uri})
