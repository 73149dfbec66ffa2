"""What S3 answers is read whole, or its failure told in one line."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ResponseStreamingError

from lamella.errors import CloudError
from lamella.storage import READ_TRIES, Bucket


class Body:
    """Ends early, or doesn't."""

    def __init__(self, data: bytes | None) -> None:
        self._data = data

    def read(self) -> bytes:
        if self._data is None:
            raise ResponseStreamingError(error="Connection broken")
        return self._data


class Client:
    """Gives bodies, or raises errors, in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"Body": Body(self._next()), "ETag": "tag", "ContentLength": 0}

    def delete_objects(self, **_: Any) -> dict[str, Any]:
        return {"Errors": self._next()}

    def _next(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def bucket(*answers: Any) -> Bucket:
    client: Any = Client(*answers)
    return Bucket(client, "b", "runs/")


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")


def test_a_body_that_ends_early_is_asked_for_again() -> None:
    assert bucket(None, b"whole").read("a") == b"whole"
    with pytest.raises(CloudError, match=r"reading s3://b/runs/a failed: .*Connection broken"):
        bucket(*[None] * READ_TRIES, b"too late").read("a")


def test_what_is_not_there_is_told_apart_from_what_can_not_be_reached() -> None:
    for code in ("NoSuchKey", "404", "AccessDenied"):
        with pytest.raises(FileNotFoundError, match="s3://b/runs/a"):
            bucket(refusal(code)).read("a")
    for error in (refusal("SlowDown"), EndpointConnectionError(endpoint_url="http://s3")):
        with pytest.raises(CloudError, match="reading s3://b/runs/a failed"):
            bucket(error).read("a")


def test_an_object_that_can_not_be_removed_is_told() -> None:
    bucket([]).delete(["a"])
    with pytest.raises(CloudError, match=r"s3://b/runs/a can't be removed: AccessDenied"):
        bucket([{"Key": "runs/a", "Code": "AccessDenied", "Message": "no"}]).delete(["a"])
