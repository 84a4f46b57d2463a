"""Times several systems fairly: in interleaved rounds, so that whatever the machine does meanwhile
(a clock that drops, a neighbour) falls on all of them alike."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .systems import stopwatch, synchroniser
from .workload import Call, LeftOut, System

WARMUPS, CALLS = 5, 30  # the form in which the seed's figures were first published
LONGEST_WALL = 2.0  # seconds
CACHE_WARMUPS = 2  # untimed calls at the start of a turn: the system before it had the caches


@dataclass
class Row:
    """One system's figures, or the reason why it has none. Times of single calls are in µs."""

    system: str
    us_median: float | None = None
    us_min: float | None = None
    max_abs_err: float | None = None
    setup_seconds: float | None = None
    wall_30_calls_s: float | None = None
    reason: str | None = None
    about: str = ""  # what the figures come from, in a few words
    samples: list[float] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict:
        names = ("us_median", "us_min", "max_abs_err", "setup_seconds", "wall_30_calls_s")
        row = {"system": self.system} | {name: getattr(self, name) for name in names}
        return row | ({"reason": self.reason} if self.reason else {})


class Turn:
    """One system, set up: `row` to fill, and how to take a timed turn of it."""

    def __init__(self, row: Row, call: Call, inputs: tuple):
        self.row, self.call = row, lambda: call(*inputs)
        self.synchronise = synchroniser(device_of(inputs))
        self.time = stopwatch(device_of(inputs))

    def wall(self) -> None:
        """5 calls to warm up, then the wall time of 30, the device idle before and after. Of a
        system that takes long, as many as there is time for stand for all of them."""
        self.repeat(WARMUPS)
        self.synchronise()
        start = time.perf_counter()
        calls = self.repeat(CALLS)
        self.synchronise()
        self.row.wall_30_calls_s = (time.perf_counter() - start) * CALLS / calls

    def repeat(self, most: int) -> int:
        start, done = time.perf_counter(), 0
        while done < most and time.perf_counter() - start < LONGEST_WALL:
            self.call()
            done += 1
        return done

    def take(self, seconds: float) -> None:
        """Times single calls for about `seconds`, one at least."""
        calls = max(1, int(seconds * CALLS / self.row.wall_30_calls_s))
        for _ in range(CACHE_WARMUPS if calls > CACHE_WARMUPS else 0):
            self.call()
        for _ in range(calls):
            self.row.samples.append(self.time(self.call))


def device_of(inputs: tuple) -> torch.device:
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")


def differ(result: object, expected: object) -> tuple[float, str | None]:
    """The largest difference of two nests of tensors; what is wrong where they are not alike."""
    (mine, my_tree), (theirs, their_tree) = map(pytree.tree_flatten, (result, expected))
    if my_tree != their_tree:
        return 0.0, f"nested as {my_tree}, not as {their_tree}"
    largest = 0.0
    for one, other in zip(mine, theirs, strict=True):
        if one.shape != other.shape:
            return 0.0, f"shape {tuple(one.shape)}, not {tuple(other.shape)}"
        largest = max(largest, (one.double() - other.double()).abs().max().item())
    return largest, None


def set_up(
    system: System, model: nn.Module, inputs: tuple, expected: dict[str | None, object]
) -> Turn | Row:
    """Sets a system up and checks its result; a Row with the reason where it cannot run.

    The set-up time is everything from the model to the end of the first call.
    """
    row = Row(system.name)
    try:
        start = time.perf_counter()
        call = system.setup(model, *inputs)
        result = call(*inputs)
        synchroniser(device_of(inputs))()
        row.setup_seconds = time.perf_counter() - start
    except LeftOut as reason:
        row.reason = str(reason)
        return row
    except Exception as error:  # a rival that cannot is a row of the table, not the end of it
        first_line = (str(error).strip() or "no message").splitlines()[0]
        row.reason = f"{type(error).__name__}: {first_line}"
        return row
    expected.setdefault(system.name, result)
    row.max_abs_err, wrong = differ(result, expected.get(system.reference, result))
    if wrong:
        row.max_abs_err, row.reason = None, f"wrong result: {wrong}"
        return row
    return Turn(row, call, inputs)


def measure(
    systems: Sequence[System],
    model: nn.Module,
    inputs: tuple,
    *,
    rounds: int,
    seconds: float,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Sets up every system, then times them all in `rounds` interleaved rounds.

    Args:
        model: in eval mode, on the device of its inputs.
        inputs: the arguments of a call.
        rounds: each is one turn of every system, in an order that moves on by one.
        seconds: what each system is timed for in all; one slower than a turn gets one call in it.
        progress: called with a line of text whenever something new begins.

    Returns a row for every system, in their order.
    """
    rows: list[Row] = []
    turns: list[Turn] = []
    with torch.no_grad():
        expected = {None: model(*inputs)} if any(s.reference is None for s in systems) else {}
        for system in systems:
            progress(f"setting up {system.name}")
            # A copy for each: pfcn moves the parameters of its model, which no rival should feel.
            result = set_up(system, copy.deepcopy(model), inputs, expected)
            if isinstance(result, Turn):
                result.wall()
                turns.append(result)
                result = result.row
            rows.append(result)
        for i in range(rounds if turns else 0):
            progress(f"round {i + 1} of {rounds}")
            first = i % len(turns)
            for turn in turns[first:] + turns[:first]:
                turn.take(seconds / rounds)
    for turn in turns:
        turn.row.us_median = statistics.median(turn.row.samples)
        turn.row.us_min = min(turn.row.samples)
    return rows
