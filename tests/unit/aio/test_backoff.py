"""Pauses between attempts."""

from __future__ import annotations

from ticketlock.aio.backoff import Backoff


def test_pauses_double_up_to_the_limit() -> None:
    backoff = Backoff(0.1, 0.5)
    assert not backoff.started
    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert backoff.started
    assert backoff.at_limit


def test_a_success_starts_anew() -> None:
    backoff = Backoff(0.1, 0.5, factor=3)
    assert [backoff.next(), backoff.next()] == [0.1, 0.1 * 3]
    backoff.reset()
    assert (backoff.started, backoff.at_limit, backoff.next()) == (False, False, 0.1)


def test_jitter_only_shortens_a_pause() -> None:
    pauses = [Backoff(1.0, 1.0, jitter=0.25).next() for _ in range(200)]
    assert all(0.75 <= pause <= 1.0 for pause in pauses)
    assert len(set(pauses)) > 100
