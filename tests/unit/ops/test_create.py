"""An object that several write at a time is made by one of them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from lamella.errors import CloudError
from lamella.storage import CREATE_TRIES, Bucket


class Client:
    """Refuses a PUT with each of these codes in turn."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)

    def put_object(self, **given: Any) -> dict[str, str]:
        assert given["IfNoneMatch"] == "*"
        if self.codes:
            raise ClientError({"Error": {"Code": self.codes.pop(0)}}, "PutObject")
        return {"ETag": "tag"}


def create(*codes: str) -> bool:
    client: Any = Client(*codes)
    return Bucket(client, "b").create("summary.json", b"{}")


def test_who_comes_while_another_writes_tries_again_and_learns_who_was_first() -> None:
    assert create()
    assert create("ConditionalRequestConflict")
    assert not create("ConditionalRequestConflict", "PreconditionFailed")


def test_any_other_refusal_is_raised() -> None:
    with pytest.raises(CloudError, match=r"writing s3://b/summary.json failed: AccessDenied"):
        create("AccessDenied")
    with pytest.raises(CloudError, match=r"s3://b/summary.json can't be written"):
        create(*["ConditionalRequestConflict"] * CREATE_TRIES)
