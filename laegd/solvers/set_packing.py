"""The set-packing program over columns: its linear relaxation, growing column by column, and its integer optimum.

Rows 0..U-1: a user is served at most once (exactly once where it cannot run locally); row U + s: server s takes at most
one set. Solved by HiGHS, one thread, which hears no signal: where it may take long, one waits for it in another.
"""

import threading
import time
from typing import Any, NamedTuple

import highspy
import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.solvers.calls import Call
from laegd.solvers.columns import Columns

_PRIMAL_SIMPLEX = 4  # new columns keep the basis primal feasible
_QUICK_ENTRIES = 10_000  # of a relaxation that is solved before a signal could be waiting for it
_PATIENCE_S = 0.3  # with an integer program past its deadline

_FEASIBLE = int(highspy.SolutionStatus.kSolutionStatusFeasible)
_Highs: Any = highspy.Highs.__base__  # without the Python wrapper, whose constructor prints a banner


def _new_highs() -> Any:
    highs = _Highs()
    for option, value in {"output_flag": False, "threads": 1, "random_seed": 0}.items():
        highs.setOptionValue(option, value)
    return highs


def _limit_time(highs: Any, deadline: float) -> None:
    """Limits the next run by a deadline (time.perf_counter); HiGHS counts the time of all runs of one object."""
    highs.setOptionValue("time_limit", highs.getRunTime() + max(0.0, deadline - time.perf_counter()))


def _run_integer_program(highs: Any, deadline: float) -> bool:
    """Runs until the deadline; False where HiGHS goes on beyond it, in a presolve that hears no clock.

    Then, and after a signal, it ends by itself as soon as it looks up.
    """
    given_up = threading.Event()

    def interrupt(kind: Any, message: str, data_out: Any, data_in: Any, user_data: Any) -> None:
        data_in.user_interrupt = given_up.is_set()

    highs.setCallback(interrupt, None)
    highs.startCallback(highspy.cb.HighsCallbackType.kCallbackMipInterrupt)
    _limit_time(highs, deadline)
    try:
        return Call(highs.run).ended(deadline + _PATIENCE_S)
    finally:
        given_up.set()


class Duals(NamedTuple):
    """An optimal solution of the relaxation over the columns added so far."""

    objective: float
    user: Float[np.ndarray, "user"]
    server: Float[np.ndarray, "server"]
    value: Float[np.ndarray, "column"]


class Relaxation:
    """The linear relaxation; columns are added as they are found, and each solve starts from the last basis."""

    def __init__(self, local_allowed: Bool[np.ndarray, "user"], num_servers: int) -> None:
        self._num_entries = 0
        self._num_users, num_rows = len(local_allowed), len(local_allowed) + num_servers
        lower = np.concatenate([np.where(local_allowed, -np.inf, 1.0), np.full(num_servers, -np.inf)])
        self._highs = _new_highs()
        self._highs.setOptionValue("presolve", "off")
        self._highs.setOptionValue("simplex_strategy", _PRIMAL_SIMPLEX)
        none, no_index = np.zeros(0), np.zeros(0, dtype=np.int32)
        self._highs.addRows(num_rows, lower, np.ones(num_rows), 0, no_index, no_index, none)

    def add(self, columns: Columns) -> None:
        """Adds columns."""
        count, start = len(columns), columns.start[:-1].astype(np.int32)
        row, one = columns.row.astype(np.int32), np.ones(len(columns.row))
        self._num_entries += len(row)
        # no upper bound: the rows keep every value at most 1
        self._highs.addCols(count, columns.cost, np.zeros(count), np.full(count, np.inf), len(row), start, row, one)

    def fix(self, chosen: Int[np.ndarray, "some"]) -> None:
        """Takes these columns for good."""
        one = np.ones(len(chosen))
        self._highs.changeColsBounds(len(chosen), chosen.astype(np.int32), one, one)

    def solve(self, deadline: float) -> Duals | None:
        """Solves; None where the deadline came first, or fixed columns leave no solution."""
        _limit_time(self._highs, deadline)
        if self._num_entries <= _QUICK_ENTRIES:
            self._highs.run()
        else:
            Call(self._highs.run).ended()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._highs.getSolution()
        dual, value = np.array(solution.row_dual), np.array(solution.col_value)
        return Duals(self._highs.getObjectiveValue(), dual[: self._num_users], dual[self._num_users :], value)


class Selection(NamedTuple):
    """Columns chosen by the integer program."""

    chosen: Int[np.ndarray, "some"] | None  # None: no feasible choice was found
    bound: float  # on the objective over these columns
    proved: bool  # the choice is optimal over these columns, or there is none


def select(
    columns: Columns,
    local_allowed: Bool[np.ndarray, "user"],
    num_servers: int,
    deadline: float,
    max_nodes: int | None = None,
) -> Selection:
    """Solves the integer program over the given columns, until the deadline (time.perf_counter) or node limit."""
    if not len(columns):
        return Selection(np.zeros(0, np.int64), 0.0, True) if local_allowed.all() else Selection(None, np.inf, True)
    highs = _new_highs()
    for option in ("mip_rel_gap", "mip_abs_gap"):
        highs.setOptionValue(option, 0.0)
    if max_nodes is not None:
        highs.setOptionValue("mip_max_nodes", max_nodes)
    num_rows, count = len(local_allowed) + num_servers, len(columns)
    lower = np.concatenate([np.where(local_allowed, -np.inf, 1.0), np.full(num_servers, -np.inf)])
    highs.passModel(
        count,
        num_rows,
        len(columns.row),
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        columns.cost,
        np.zeros(count),
        np.ones(count),
        lower,
        np.ones(num_rows),
        columns.start[:-1].astype(np.int32),
        columns.row.astype(np.int32),
        np.ones(len(columns.row)),
        np.full(count, int(highspy.HighsVarType.kInteger), dtype=np.int32),
    )
    if not _run_integer_program(highs, deadline):
        return Selection(None, -np.inf, False)
    status, info = highs.getModelStatus(), highs.getInfo()
    if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return Selection(None, np.inf, True)
    proved = status == highspy.HighsModelStatus.kOptimal
    if not np.isfinite(info.objective_function_value) or info.primal_solution_status != _FEASIBLE:
        return Selection(None, info.mip_dual_bound, False)
    return Selection(np.flatnonzero(np.array(highs.getSolution().col_value) > 0.5), info.mip_dual_bound, proved)
