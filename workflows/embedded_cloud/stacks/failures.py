"""Why something of a stack failed, in words for its events."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from werkzeug.exceptions import HTTPException

_GONE = ("notfound", "nosuch", "nonexistent", "doesnotexist")


class ResourceFailed(Exception):
    """One resource could not be made, changed or deleted.

    Parameters
    ----------
    reason
        For the event.
    model
        What there is of it nevertheless, and has to be deleted.
    """

    def __init__(self, reason: str, model: Any = None) -> None:
        super().__init__(reason)
        self.model = model


def reason_of(error: Exception) -> str:
    """Say what an error is about."""
    if isinstance(error, ServiceException):
        return str(error.message)
    if isinstance(error, HTTPException):
        return str(getattr(error, "message", None) or error.description)
    if isinstance(error, KeyError):
        return f"Unresolved resource dependencies [{error.args[0]}] in the Resources block of the template"
    return str(error) or type(error).__name__


def is_gone(error: Exception) -> bool:
    """Whether what was to be deleted is not there any more, which is as good."""
    kinds = (type(error).__name__, str(getattr(error, "code", "")), str(getattr(error, "error_type", "")))
    return any(word in kind.replace("_", "").lower() for kind in kinds for word in _GONE)
