"""Which texts are bells, and which of them are believed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlock.checks import MAX_FENCE
from ticketlock.locks.concurrent.bells import Bell, read

SECRET = b"0123456789abcdef"


def sign(text: bytes, secret: bytes = SECRET) -> bytes:
    return text + b" " + hashlib.sha1(secret + text + secret).hexdigest().encode()


BELLS = {
    b"grant 7 3 1700000000000000 1700000004000": Bell(
        "grant", 7, 3, 1700000000000000, 1700000004000
    ),
    b"grant 7 3 9 10 interrupt": Bell("grant", 7, 3, 9, 10, "interrupt"),
    b"broken 7 9": Bell("broken", 7, fence=9),
    b"finished 7 0": Bell("finished", 7),
    b"stop 7 9 rollback": Bell("stop", 7, fence=9, mode="rollback"),
    b"answered 7": Bell("answered", 7),
    b'said 7 9 3 ["a", "b"]': Bell("said", 7, 3, 9, text=b'["a", "b"]'),
    b"said 7 9 0 [\n]": Bell("said", 7, 0, 9, text=b"[\n]"),
}


@pytest.mark.parametrize(("text", "bell"), BELLS.items())
def test_signed(text: bytes, bell: Bell) -> None:
    """A bell with our signature is signed, one without or with another's is not."""
    assert read(sign(text), SECRET) == bell._replace(signed=True)
    assert read(text, SECRET) == bell
    assert read(sign(text, b"another"), SECRET) == bell


@pytest.mark.parametrize(("text", "bell"), BELLS.items())
def test_answers(text: bytes, bell: Bell) -> None:
    """The text of an answer needs no signature."""
    assert read(text, None) == bell._replace(signed=True)


def test_the_end_of_the_numbers() -> None:
    """A fence that would leave none to follow it makes no bell, whoever signed it."""
    assert read(sign(b"grant 1 1 %d 5" % MAX_FENCE), SECRET) is not None
    assert read(sign(b"grant 1 1 %d 5" % (MAX_FENCE + 1)), SECRET) is None
    assert read(sign(b"broken 1 9223372036854775807"), SECRET) is None


@given(st.binary(max_size=300))
def test_any_text(text: bytes) -> None:
    """What is no bell is dropped, and costs no error."""
    bell = read(text, SECRET)
    assert bell is None or not bell.signed


@given(st.sampled_from(list(BELLS)), st.integers(0, 60), st.integers(0, 255))
def test_a_changed_bell(text: bytes, place: int, byte: int) -> None:
    """A signed bell in which one byte is changed is not believed."""
    signed = bytearray(sign(text))
    place %= len(signed)
    if signed[place] == byte:
        return
    signed[place] = byte
    bell = read(bytes(signed), SECRET)
    assert bell is None or not bell.signed


def test_an_extended_bell() -> None:
    """Nor one to which something was added behind the padding of its digest."""
    text = b"grant 7 3 9 10"
    padding = b"\x80" + bytes(40)
    assert read(sign(text + padding + b" rollback"), SECRET) is None
