"""Calls of programs that hear neither clock nor signal."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int

_SLICE_S = 0.2  # of waiting; signals are answered in between
_THREAD = "laegd-call"

T = TypeVar("T")

Hint = Callable[[], Int[np.ndarray, "user"] | None]
"""Returns the server of each user in a plan of any origin, or None."""


class Call(Generic[T]):
    """A call in a thread of its own, which one may stop waiting for: at a deadline, or at a signal."""

    def __init__(self, function: Callable[[], T]) -> None:
        """Starts the call."""
        self._function, self._ended = function, threading.Event()
        self._answer: list[T] = []
        self._error: BaseException | None = None
        # not a daemon: Python's end would take XLA from under a compilation, which crashes; a script waits for it
        threading.Thread(target=self._run, name=_THREAD).start()

    def _run(self) -> None:
        try:
            self._answer.append(self._function())
        except BaseException as error:  # raised again where the answer is taken
            self._error = error
        self._ended.set()

    def ended(self, deadline: float = float("inf")) -> bool:
        """Waits until the deadline (time.perf_counter); tells whether the call has ended."""
        while not self._ended.is_set() and (left := deadline - time.perf_counter()) > 0:
            self._ended.wait(min(left, _SLICE_S))
        return self._ended.is_set()

    def answer(self) -> T:
        """Returns what the call returned, or raises what it raised; it must have ended."""
        if self._error is not None:
            raise self._error
        return self._answer[0]


def any_left() -> bool:
    """Tells whether a call still runs, such as one that was given up at a limit."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


class Advice:
    """A hint, asked for once, in a thread of its own: it may take its time to compile."""

    def __init__(self, hint: Hint) -> None:
        self.hint = hint
        self.call: Call | None = None
        self.taken = False
        self.waited_s = 0.0
        """Time that was spent on nothing else."""

    def get(self, wait_s: float, again: bool) -> Int[np.ndarray, "user"] | None:
        """Returns the answer once it is there, once, else None.

        Args:
            wait_s: How long to wait for it, where it is asked for now.
            again: Whether to wait, too, where it was asked for before.
        """
        begin = time.perf_counter()
        if self.taken:
            return None
        if self.call is None:
            self.call, again = Call(self.hint), True
        self.taken = self.call.ended(begin + wait_s if again else begin)
        self.waited_s += time.perf_counter() - begin
        return self.call.answer() if self.taken else None
