"""How a message lies in SNS and SQS, and what it counts there: limits and sizes, in bytes.

Body and names, types and values of attributes all count towards a message's size, its batch's, and the price.
"""

from __future__ import annotations

# A message's bytes are a binary attribute of this name; its body, which must not be empty, is one character.
DATA = "data"
BODY = "."
# Of a message through SNS: the slot that it goes to, by which the topic's filters pass it on.
SLOT = "slot"
# Of a publish, unless the topic's MaximumMessageSize is raised (SNS quotas).
SNS_BATCH_BYTES = 256 << 10
# Of a message, and of a batch (SQS quotas).
SQS_BATCH_BYTES = 1 << 20


def sqs_size_bytes(data_bytes: int) -> int:
    """What SQS counts for a message that carries so much."""
    return data_bytes + len(BODY) + len(DATA) + len("Binary")


def sns_size_bytes(data_bytes: int, slot: str) -> int:
    """What SNS counts for a message that carries so much to a slot."""
    return sqs_size_bytes(data_bytes) + len(SLOT) + len("String") + len(slot)


# The longest that a channel takes; slots have names of at most four characters.
SNS_MESSAGE_BYTES = SNS_BATCH_BYTES - sns_size_bytes(0, "9999")
SQS_MESSAGE_BYTES = SQS_BATCH_BYTES - sqs_size_bytes(0)
