"""When two requests are the same task."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.domain import uuids
from tasker.domain.errors import InvalidArgumentError
from tasker.domain.identity import IdentityStrategy, canonical_json, context_digest, identity_hash
from tasker.domain.uuids import parse_uuid, uuid7

CHECKOUT_1 = UUID(int=1)
CHECKOUT_2 = UUID(int=2)


def identity(
    context: dict[str, Any] | None = None,
    *,
    strategy: IdentityStrategy = IdentityStrategy.STRICT,
    template: UUID = CHECKOUT_1,
    key: str | None = None,
) -> bytes:
    return identity_hash(
        strategy, task_uuid=uuid7(), named_task_uuid=template, context=context, idempotency_key=key
    )


def test_equal_contexts_collide_however_they_are_written() -> None:
    assert identity({"a": 1, "b": 2}) == identity({"b": 2.0, "a": 1.0})
    assert identity({"a": {"y": 1e16, "x": -0.0}}) == identity({"a": {"x": 0, "y": 10**16}})
    assert identity({"a": [1e23, -1.5e300]}) == identity(
        {"a": [10**23, -15 * 10**299]}
    )  # as jsonb gives them back
    assert identity(None) == identity({})


def test_what_differs_does_not_collide() -> None:
    assert identity({"a": [1, 2]}) != identity({"a": [2, 1]})
    assert identity({"a": 1}) != identity({"a": 1}, template=CHECKOUT_2)
    assert identity({"a": 1}) != identity({"a": True})
    assert identity({"a": 1}) != identity({"a": "1"})
    assert identity({"a": 1.05}) != identity({"a": 105})


def test_caller_provided_needs_a_key_and_a_key_always_counts() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        identity({}, strategy=IdentityStrategy.CALLER_PROVIDED)
    assert [violation.field for violation in caught.value.violations] == ["idempotency_key"]

    unique = IdentityStrategy.ALWAYS_UNIQUE
    assert identity({"a": 1}, strategy=unique) != identity({"a": 1}, strategy=unique)
    assert identity({"a": 1}, strategy=unique, key="k") == identity({"a": 2}, key="k")
    assert identity({}, key="k") != identity({}, key="k", template=CHECKOUT_2)


def test_a_key_is_no_context_and_no_other_key() -> None:
    assert identity({}, key="{}") != identity({})
    assert identity({}, key="k ") != identity({}, key="k")
    assert len(identity({})) == len(identity({}, key="k")) == 32


@pytest.mark.parametrize("key", ["", "   ", "x" * 256, "a\x00b"])
def test_a_key_must_be_usable(key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="idempotency_key"):
        identity({}, key=key)
    identity({}, key="x" * 255)


def test_a_replay_is_told_from_another_request_by_its_context() -> None:
    assert context_digest(CHECKOUT_1, {"a": 1}) == context_digest(CHECKOUT_1, {"a": 1.0})
    assert context_digest(CHECKOUT_1, {"a": 1}) != context_digest(CHECKOUT_1, {"a": 2})


def test_canonical_json_is_exactly_this() -> None:
    value = {"b": [1.0, 2.5, 1e300], "a": {"z": None, "ä": "x.0", "n": 29.05}}
    assert canonical_json(value) == (
        b'{"a":{"n":29.05,"z":null,"\\u00e4":"x.0"},"b":[1,2.5,' + str(10**300).encode() + b"]}"
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """Write the same value differently: keys backwards, integers as floats where that loses nothing."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


@given(json_values)
def test_canonical_json_means_the_same_and_ignores_spelling(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text, parse_int=float) == json.loads(json.dumps(value), parse_int=float)
    assert canonical_json(shuffled(value)) == text
    assert canonical_json(json.loads(text)) == text


def test_uuids_are_version_7_and_grow() -> None:
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {(uuid.version, uuid.variant) for uuid in made} == {(7, "specified in RFC 4122")}
    assert UUID(str(made[0])) == made[0]
    assert repr(made[0]).startswith("UUID('")


def test_uuids_tell_when_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uuids, "_state", uuids._State())
    monkeypatch.setattr(uuids, "time_ns", lambda: 1_700_000_000_123_999_999)
    assert uuid7().int >> 80 == 1_700_000_000_123


def test_uuids_grow_while_the_clock_stands_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uuids, "_state", uuids._State())
    times = iter([5_000_000, 5_000_000, 1_000_000, 5_000_000, 6_000_000])
    monkeypatch.setattr(uuids, "time_ns", lambda: next(times))
    made = [uuid7() for _ in range(5)]
    assert made == sorted(set(made))
    assert [uuid.int >> 80 for uuid in made] == [5, 5, 5, 5, 6]


def test_a_full_millisecond_borrows_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    state = uuids._State()
    monkeypatch.setattr(uuids, "_state", state)
    monkeypatch.setattr(uuids, "time_ns", lambda: 5_000_000)
    before = uuid7()
    state.tail = uuids._TAIL_LIMIT - 1
    after = uuid7()
    assert after > before
    assert after.int >> 80 == 6
    assert after.version == 7


def test_threads_never_make_the_same_uuid() -> None:
    def make(_: int) -> list[UUID]:
        return [uuid7() for _ in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(4)))
    assert len({uuid for one in made for uuid in one}) == 8000
    assert all(one == sorted(one) for one in made)


FORK = """
import os
from tasker.domain.uuids import uuid7
uuid7()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, str(uuid7()).encode())
    os._exit(0)
print(uuid7(), os.read(read, 36).decode())
"""


def test_a_forked_child_does_not_repeat_its_parent() -> None:
    # In a process of its own: this one may have threads, which do not survive a fork.
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    mine, theirs = (UUID(text) for text in run.stdout.split())
    # A copied generator would give both the same random part, in whatever millisecond.
    assert mine.int & (2**62 - 1) != theirs.int & (2**62 - 1)


def test_a_uuid_is_read_in_its_canonical_form_only() -> None:
    uuid = uuid7()
    assert parse_uuid(str(uuid), "task_uuid") == uuid
    assert parse_uuid(str(uuid).upper(), "task_uuid") == uuid
    for text in ["", "x", uuid.hex, f"{{{uuid}}}", f"urn:uuid:{uuid}", f" {uuid}", f"{uuid}\n", "1" * 5000]:
        with pytest.raises(InvalidArgumentError, match="task_uuid") as caught:
            parse_uuid(text, "task_uuid")
        assert len(str(caught.value)) < 200
