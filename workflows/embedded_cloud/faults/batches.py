"""Batches of which a service takes only some entries."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from workflows.embedded_cloud.faults.requests import ApiRequest
from workflows.embedded_cloud.lambda_api import StartResponse

Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
_CODE, _MESSAGE = "InternalError", "Injected by the embedded cloud."
_ENTRY = re.compile(r"PublishBatchRequestEntries\.member\.(\d+)\.")


def refuse_entries(application: Application, request: ApiRequest, draw: float) -> Application:
    """An application that is told of some of a batch's entries only, and answers that the others failed.

    The entry that ``draw`` names fails, and every second one after it. What is no batch is passed on.
    """
    if request.service == "sqs" and request.operation in {"SendMessageBatch", "DeleteMessageBatch"}:
        return _of_sqs(application, request, draw)
    if request.service == "sns" and request.operation == "PublishBatch":
        return _of_sns(application, request, draw)
    return application


def _failing(count: int, draw: float) -> set[int]:
    return set(range(min(int(draw * count), count - 1), count, 2))


def _of_sqs(application: Application, request: ApiRequest, draw: float) -> Application:
    asked = json.loads(request.body)
    entries = asked.get("Entries", [])
    if not entries:
        return application
    failing = _failing(len(entries), draw)
    failed = [
        {"Id": entries[i]["Id"], "SenderFault": False, "Code": _CODE, "Message": _MESSAGE}
        for i in sorted(failing)
    ]
    kept = [entry for i, entry in enumerate(entries) if i not in failing]

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        status, headers, found = "200 OK", [("Content-Type", "application/x-amz-json-1.0")], {}
        if kept:
            status, headers, body = _called(
                application, environ, json.dumps({**asked, "Entries": kept}).encode()
            )
            if not status.startswith("200"):
                return _sent(start_response, status, headers, body)
            found = json.loads(body)
        found = {"Successful": found.get("Successful", []), "Failed": [*found.get("Failed", []), *failed]}
        return _sent(start_response, status, headers, json.dumps(found).encode())

    return answer


def _of_sns(application: Application, request: ApiRequest, draw: float) -> Application:
    fields = parse_qsl(request.body.decode(), keep_blank_values=True)
    numbers = sorted({int(match[1]) for name, _ in fields if (match := _ENTRY.match(name))})
    if not numbers:
        return application
    failing = {numbers[i] for i in _failing(len(numbers), draw)}
    ids = {name: value for name, value in fields if name.endswith(".Id")}
    members = "".join(
        f"<member><Id>{ids[f'PublishBatchRequestEntries.member.{number}.Id']}</Id><Code>{_CODE}</Code>"
        f"<Message>{_MESSAGE}</Message><SenderFault>false</SenderFault></member>"
        for number in sorted(failing)
    )
    kept = [
        (name, value)
        for name, value in fields
        if not (match := _ENTRY.match(name)) or int(match[1]) not in failing
    ]

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        status, headers = "200 OK", [("Content-Type", "text/xml")]
        text = (
            "<PublishBatchResponse><PublishBatchResult><Successful></Successful><Failed></Failed>"
            "</PublishBatchResult></PublishBatchResponse>"
        )
        if len(failing) < len(numbers):
            status, headers, body = _called(application, environ, urlencode(kept).encode())
            if not status.startswith("200"):
                return _sent(start_response, status, headers, body)
            text = body.decode().replace("<Failed/>", "<Failed></Failed>")
        return _sent(
            start_response, status, headers, text.replace("</Failed>", members + "</Failed>", 1).encode()
        )

    return answer


def _called(
    application: Application, environ: dict[str, Any], body: bytes
) -> tuple[str, list[tuple[str, str]], bytes]:
    kept: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]]) -> object:
        kept.append((status, headers))
        return None

    changed = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    answer = b"".join(application(changed, start))
    status, headers = kept[-1]
    return status, headers, answer


def _sent(
    start_response: StartResponse, status: str, headers: list[tuple[str, str]], body: bytes
) -> Iterable[bytes]:
    others = [(name, value) for name, value in headers if name.lower() != "content-length"]
    start_response(status, [*others, ("Content-Length", str(len(body)))])
    return [body]
