"""Amazon States Language that the ``stepfunctions`` SDK 2.3.0 predates, as small subclasses of its states.

The SDK accepts a field if it is among ``allowed_fields()``, names it by the field's value, and writes it in
PascalCase; all it needs for a newer field is to be told its name. No other module imports the SDK.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from enum import Enum
from typing import Any

# The SDK brings SageMaker's along, which warns of its age and logs to stdout when it is imported.
with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from stepfunctions.steps import Catch, Chain, Choice, ChoiceRule, Fail, Graph, Map, Retry, Task, Wait
    from stepfunctions.steps.states import State

__all__ = [
    "Catch",
    "Chain",
    "Choice",
    "ChoiceRule",
    "DistributedMap",
    "DynamicFail",
    "Graph",
    "InlineMap",
    "JitteredRetry",
    "Json",
    "Task",
    "Wait",
]

Json = dict[str, Any]


class NewField(Enum):
    """Fields of the language that the SDK doesn't know."""

    ItemReader = "item_reader"
    ItemSelector = "item_selector"
    Label = "label"
    ToleratedFailureCount = "tolerated_failure_count"
    MaxDelaySeconds = "max_delay_seconds"
    JitterStrategy = "jitter_strategy"
    ErrorPath = "error_path"
    CausePath = "cause_path"


class JitteredRetry(Retry):  # type: ignore[misc]
    """A retrier with ``MaxDelaySeconds`` and ``JitterStrategy``."""

    def allowed_fields(self) -> list[Enum]:
        return [*super().allowed_fields(), NewField.MaxDelaySeconds, NewField.JitterStrategy]


class DynamicFail(Fail):  # type: ignore[misc]
    """A Fail state whose error and cause may come from its input (``ErrorPath``, ``CausePath``)."""

    def allowed_fields(self) -> list[Enum]:
        return [*super().allowed_fields(), NewField.ErrorPath, NewField.CausePath]


class InlineMap(Map):  # type: ignore[misc]
    """A Map in its current form: ``ItemProcessor`` and ``ItemSelector``.

    Parameters
    ----------
    processor
        First state, or chain of states, of every iteration.
    """

    def __init__(self, state_id: str, processor: Any, **fields: Any) -> None:
        super().__init__(state_id, **fields)
        self.attach_iterator(processor)

    def allowed_fields(self) -> list[Enum]:
        replaced = {"iterator", "parameters"}
        kept = [field for field in super().allowed_fields() if field.value not in replaced]
        return [*kept, NewField.ItemSelector]

    def processor_config(self) -> Json:
        """How the iterations run."""
        return {"Mode": "INLINE"}

    def to_dict(self) -> Json:
        # Not Map's own, which would write the processor as the deprecated Iterator.
        state: Json = State.to_dict(self)
        state["ItemProcessor"] = {
            "ProcessorConfig": self.processor_config(),
            **Graph(self.iterator).to_dict(),
        }
        return state


class DistributedMap(InlineMap):
    """A Map whose iterations are executions of their own, of type STANDARD.

    ``ItemReader`` says where its items are, ``Label`` names it in its executions' ARNs.
    """

    def allowed_fields(self) -> list[Enum]:
        return [
            *super().allowed_fields(),
            NewField.ItemReader,
            NewField.Label,
            NewField.ToleratedFailureCount,
        ]

    def processor_config(self) -> Json:
        return {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
