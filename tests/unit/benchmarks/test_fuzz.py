"""Some cases of every target: CI's share of `python -m benchmarks.fuzz`."""

from __future__ import annotations

from benchmarks.fuzz import fuzzed
from benchmarks.fuzz_targets import Target, targets
from benchmarks.mutation import mutated
from lamella.errors import LamellaError, MessageError


def test_nothing_but_typed_errors_comes_of_tampered_bytes() -> None:
    with targets() as known:
        found = {
            target.name: fuzzed(target, 20, most=3 if "parquet" in target.name else 60) for target in known
        }
    assert {name: result.failures for name, result in found.items() if result.failures} == {}
    assert all(result.cases for result in found.values())
    assert sum(result.errors_typed for result in found.values()) > 20 * len(found)


def test_what_is_tampered_with_was_sound() -> None:
    with targets() as known:
        assert [
            target.name for target in known if not any(_is_read(target, seed) for seed in target.seeds)
        ] == []


def _is_read(target: Target, seed: bytes) -> bool:
    try:
        target.read(seed)
    except LamellaError:
        return False
    return True


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    seeds = (b'{"a": [1, 2]}', b"other")
    assert mutated(seeds, "x:1") == mutated(seeds, "x:1")
    assert len({mutated(seeds, f"x:{k}") for k in range(50)}) > 30


def _untyped(data: bytes) -> None:
    if data:
        raise KeyError("an error of nobody's")


def _typed(_: bytes) -> None:
    raise MessageError("wrong")


def test_an_error_that_is_not_lamella_s_is_a_failure_and_named() -> None:
    found = fuzzed(Target("untyped", _untyped, (b"sound",)), 5, most=3)
    assert found.failures
    assert "KeyError" in found.failures[0]
    assert found.failures[0].startswith("untyped:0")
    assert fuzzed(Target("typed", _typed, (b"sound",)), 5, most=3).errors_typed == 3


def _ended(_: bytes) -> None:
    import os

    os.abort()


def test_a_crash_is_a_failure() -> None:
    (failure,) = fuzzed(Target("ended", _ended, (b"sound",)), 5, most=3).failures
    assert "ended:0: the process ended by itself: -6" in failure
