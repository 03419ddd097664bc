"""Code that comes with data has a time limit, and the timers of others are left alone."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from conftest import word_tokenizer

from emorl_bench.core.errors import UserError
from emorl_bench.core.patience import at_most
from emorl_bench.models import prompting


def endless() -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass


def test_what_does_not_end_is_one_line_and_the_handler_is_as_before() -> None:
    before = signal.getsignal(signal.SIGALRM)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^a loop does not end within 0\.2 seconds"), at_most(0.2, "a loop"):
        endless()
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_timer_of_somebody_else_still_rings() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with at_most(0.1, "a loop"):
            time.sleep(0.6)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]


def test_other_threads_have_no_limit() -> None:
    done: list[bool] = []

    def work() -> None:
        with at_most(0.05, "a loop"):
            time.sleep(0.2)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert done == [True]


def test_a_chat_template_that_loops_for_hours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompting, "PATIENCE", 0.3)
    tokenizer = word_tokenizer()
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer.chat_template = loops
    with pytest.raises(UserError, match=r"the chat template of the model does not end within 0\.3 seconds"):
        prompting.rendered(tokenizer, [{"role": "user", "content": "a"}])
