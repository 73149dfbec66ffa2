"""What a request is: service, operation, who asks, and its content, whatever the service's protocol."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

_INVOKE = re.compile(r"/[0-9-]+/functions/[^/]+/invocations")
_S3_QUERIES = {
    ("GET", "list-type"): "ListObjectsV2",
    ("POST", "delete"): "DeleteObjects",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("PUT", "uploadId"): "UploadPart",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_S3_METHODS = {"GET": "GetObject", "PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}


@dataclass(frozen=True)
class ApiRequest:
    """A request that was read whole.

    Attributes
    ----------
    service
        As boto3 calls it, mostly: "stepfunctions" is "states", as in a signature.
    environment
        Of the function that asks; empty for anybody else.
    """

    service: str
    operation: str
    environment: str
    path: str
    body: bytes

    @property
    def content(self) -> bytes:
        """Path, query and body, in which rules look."""
        return self.path.encode() + b"\n" + self.body


def read_request(environ: dict[str, Any]) -> ApiRequest | None:
    """Read a request, and leave it to be read again; None where it can't be."""
    length = environ.get("CONTENT_LENGTH")
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    body: bytes = environ["wsgi.input"].read(int(length)) if length else b""
    environ["wsgi.input"] = io.BytesIO(body)
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    service = scope[3] if len(scope) > 3 else ""
    path, query = unquote(environ.get("PATH_INFO", "")), environ.get("QUERY_STRING", "")
    operation = _operation(service, environ, path, query, body)
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")
    return ApiRequest(service, operation, token, f"{path}?{query}" if query else path, body)


def _operation(service: str, environ: dict[str, Any], path: str, query: str, body: bytes) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rpartition(".")[2])
    method: str = environ["REQUEST_METHOD"]
    if service == "s3":
        asked = parse_qs(query, keep_blank_values=True)
        for (of_method, name), operation in _S3_QUERIES.items():
            if method == of_method and name in asked:
                return operation
        return _S3_METHODS.get(method, method)
    if service == "lambda":
        return "Invoke" if _INVOKE.fullmatch(path) and method == "POST" else path.rpartition("/")[2]
    return parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
