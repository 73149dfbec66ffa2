"""What is to fail: a rule names requests by service, operation and content, and what happens to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from workflows.embedded_cloud.errors import EmbeddedCloudError

ANY = "*"
DELIVERY = "Delivery"
"""Operation of the service sqs: a message on its way into a queue, whoever sent it."""

FAULTS: dict[str, str] = {
    "throttle": "refused, as the service refuses what comes too fast (S3: SlowDown)",
    "unavailable": "refused, as a service does that is not well",
    "delay": "applied `seconds` later; of messages: delivered later",
    "drop_response": "applied, and the connection closed without an answer",
    "duplicate": "applied twice; of messages: delivered twice",
    "reorder": "of messages: delivered up to `seconds` later, each by a time of its own",
    "partial": "of batches of messages: some entries refused, for no fault of the sender",
    "flip": "one bit of what is answered, or delivered as binary data, is another",
    "truncate": "what is answered, or delivered as binary data, is half",
    "kill": "the function that asks is killed (SIGKILL), `when` before or after it is applied",
    "freeze": "the function that asks is stopped for `seconds`, `when` before or after it is applied",
}
_OF_DELIVERIES = {"delay", "duplicate", "reorder", "flip", "truncate"}
_OF_REQUESTS = set(FAULTS) - {"reorder"}


@dataclass(frozen=True)
class Rule:
    """One kind of failure.

    Attributes
    ----------
    service, operation
        As boto3 calls them, "sqs" and "SendMessageBatch"; ``*`` for any.
    fault
        One of :data:`FAULTS`.
    where
        A regular expression that has to be found in the request's path, query or body.
    probability
        Of each request that fits.
    skip, times
        How many that fit pass before, and how many are hit; None for all.
    seconds
        Of delays and freezes.
    when
        ``before`` or ``after``: whether a function is killed, or frozen, before its request is applied.
    """

    fault: str
    service: str = ANY
    operation: str = ANY
    where: str = ""
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    seconds: float = 0.0
    when: str = "before"

    def fits(self, service: str, operation: str, content: bytes) -> bool:
        """Whether it is about such a request."""
        if self.service not in {ANY, service} or self.operation not in {ANY, operation}:
            return False
        if operation == DELIVERY and self.operation == ANY:
            return False
        return not self.where or re.search(self.where.encode(), content) is not None


def parse_rules(given: Any) -> tuple[Rule, ...]:
    """Rules from JSON: a list of objects with a rule's fields.

    Raises
    ------
    EmbeddedCloudError
        If a rule is none; says which and why.
    """
    if not isinstance(given, list):
        raise EmbeddedCloudError("rules are a list of objects")
    return tuple(_parse_rule(number, rule) for number, rule in enumerate(given))


def _parse_rule(number: int, given: Any) -> Rule:
    known = {field.name for field in fields(Rule)}

    def refuse(why: str) -> EmbeddedCloudError:
        return EmbeddedCloudError(f"rule {number}: {why}")

    if not isinstance(given, dict) or not set(given) <= known:
        raise refuse(f"a rule is an object of {', '.join(sorted(known))}")
    try:
        rule = Rule(**given)
        re.compile(rule.where.encode())
        bounds = 0 <= rule.probability <= 1 and rule.skip >= 0 and rule.seconds >= 0
        sound = bounds and (rule.times is None or rule.times >= 0)
    except (TypeError, AttributeError, re.error) as error:
        raise refuse(str(error)) from error
    if not sound or rule.when not in {"before", "after"}:
        raise refuse("a probability is 0 to 1, numbers are not negative, when is before or after")
    allowed = _OF_DELIVERIES if rule.operation == DELIVERY else _OF_REQUESTS
    if rule.fault not in allowed:
        raise refuse(f"{rule.fault!r} of {rule.operation}: use {', '.join(sorted(allowed))}")
    return rule
