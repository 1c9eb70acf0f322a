"""The encoding of record values: read as written, or reported as damaged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrunner.errors import RecordDamaged, RecordTooNew
from agentrunner.records.format import decode_value, encode_value
from agentrunner.stores import Record

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aä/"\\{}'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text("abv"), json_values, max_size=4)

SEALED_BY_0_1_0 = (
    b'{"v":1,"sum":"8dec244a769ed7f82cacd7ea350417ba",'
    b'"value":{"id":"c1-result","role":"tool","toolCallId":"c1","content":"paid"}}'
)
PLAIN_BY_0_1_0 = b'{"v":1,"held":[["r","host|1|2|3"]],"line":[]}'


def record(value: bytes) -> Record:
    return Record("approval", "r/i1", "t", 1, value)


@settings(deadline=None)
@given(objects)
def test_a_value_is_read_as_it_was_written(value: dict[str, object]) -> None:
    assert decode_value(record(encode_value(value))) == value


def test_values_of_0_1_0_are_read() -> None:
    assert decode_value(record(SEALED_BY_0_1_0))["content"] == "paid"
    assert decode_value(record(PLAIN_BY_0_1_0), plain_v1=True) == {"held": [["r", "host|1|2|3"]], "line": []}


def test_integers_over_64_bits_and_lone_surrogates_are_kept() -> None:
    value = {"number": 2**200, "text": "\ud800"}
    assert decode_value(record(encode_value(value))) == value
    assert decode_value(record(b'{"v":1,"number":%d}' % 2**200), plain_v1=True) == {"number": 2**200}


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_a_damaged_value_is_never_read_as_another(data: st.DataObject, plain_v1: bool) -> None:
    value = encode_value(data.draw(objects))
    at = data.draw(st.integers(0, len(value) - 1))
    damaged = value[:at] + bytes([value[at] ^ data.draw(st.integers(1, 255))]) + value[at + 1 :]
    with pytest.raises((RecordDamaged, RecordTooNew)):
        decode_value(record(damaged), plain_v1=plain_v1)
    with pytest.raises(RecordDamaged):
        decode_value(record(value[:at]), plain_v1=plain_v1)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b"null",
        b'{"v":null}',
        b'{"v":true}',
        b'{"v":0}',
        b'{"v":2}',
        b'{"v":"1"}',
        b"\xff",
    ],
)
def test_anything_else_is_damaged(value: bytes) -> None:
    for plain_v1 in (True, False):
        with pytest.raises(RecordDamaged) as raised:
            decode_value(record(value), plain_v1=plain_v1)
        assert (raised.value.kind, raised.value.key) == ("approval", "r/i1")


def test_a_kind_that_had_a_checksum_in_0_1_0_is_not_read_without_one() -> None:
    with pytest.raises(RecordDamaged):
        decode_value(record(PLAIN_BY_0_1_0))
    with pytest.raises(RecordDamaged):
        decode_value(record(SEALED_BY_0_1_0.replace(b"paid", b"lost")))


def test_a_newer_format_is_reported_as_such() -> None:
    with pytest.raises(RecordTooNew, match="'r/i1' was written by a newer version"):
        decode_value(record(b'{"v":3,"anything":"else"}'))
