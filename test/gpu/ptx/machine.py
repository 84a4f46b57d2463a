"""Runs a compiled kernel: teams of lanes in lockstep under masks, barrier by barrier.

A team is one warp of many blocks (orders "forward" and "backward": warp by warp up to each barrier,
so that a missing barrier shows), or all warps of many blocks (order "together", the fastest). Where
lanes diverge the lowest block of code runs first; a warp-wide instruction waits for all its lanes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from . import ops_float, ops_int, ops_memory, ops_warp  # noqa: F401  (they register the decoders)
from .compiler import Compiler
from .faults import PtxFault
from .memory import Buffer, Memory, Shadow
from .parse import WIDTH, Module, Reg, parse

EXIT = 1 << 30
ORDERS = ("forward", "backward", "together")
I64 = np.int64


@dataclass
class Traffic:
    """Of one kind of access: warp-wide requests, 32-byte sectors (or wavefronts), lanes' bytes."""

    requests: int = 0
    sectors: int = 0
    ideal: int = 0  # of a request's bytes if they lay densely
    bytes: int = 0


@dataclass
class Stats:
    """What a launch did. `unique_sectors` and `unique_bytes` count each once over the launch."""

    instructions: Counter = field(default_factory=Counter)  # warp instructions by class
    loads: Traffic = field(default_factory=Traffic)
    stores: Traffic = field(default_factory=Traffic)
    shared: Traffic = field(default_factory=Traffic)
    by_line: dict[int, Traffic] = field(default_factory=dict)
    unique_sectors: dict[str, int] = field(default_factory=dict)
    unique_bytes: dict[str, int] = field(default_factory=dict)
    block_sectors: int = 0  # loaded, each once for every block
    barriers: int = 0
    reached: set[int] = field(default_factory=set)  # lines whose block of code ran

    @property
    def bank_conflicts(self) -> int:
        return self.shared.sectors - self.shared.ideal

    @property
    def memory_overhead(self) -> float:
        """Bytes of the sectors touched, over those that must move: each once, as with a cache."""
        return 32 * sum(self.unique_sectors.values()) / max(1, sum(self.unique_bytes.values()))

    @property
    def sector_overhead(self) -> float:
        """Bytes of the sectors of all requests, over those that must move: as without caches."""
        moved = 32 * (self.loads.sectors + self.stores.sectors)
        return moved / max(1, sum(self.unique_bytes.values()))

    @property
    def sector_overhead_behind_l1(self) -> float:
        """The same if what a block has loaded stays in its first-level cache."""
        moved = 32 * (self.block_sectors + self.stores.sectors)
        return moved / max(1, sum(self.unique_bytes.values()))


class Team:
    """Lanes that run in lockstep, a multiple of 32 for each of their blocks."""

    def __init__(self, machine: Machine, slots: int, threads: np.ndarray):
        self.machine = machine
        count = machine.threads
        self.per_block = len(threads)
        self.slot = np.repeat(np.arange(slots, dtype=I64), len(threads))
        self.thread = np.tile(threads.astype(I64), slots)
        self.lanes = len(self.slot)
        self.warps = self.lanes // 32
        self.exists = self.thread < count
        self.regs = [np.zeros(1, r) for r in machine.register_types]
        self.defined: list = [None] * len(self.regs)
        self.mask = None
        self.lanes_of_mask = None
        self.syn = np.zeros(self.lanes, I64)
        self.specials: dict[str, np.ndarray] = {}
        self.pc: int | None = 0  # where all lanes are; None: see pcs
        self.pcs = np.where(self.exists, 0, EXIT).astype(np.int32)
        self.waiting = np.zeros(self.lanes, bool)
        self.held = np.zeros(self.lanes, bool)
        self.local = self.local_init = self.carry = None
        if not self.exists.all():
            self.pc = None

    # ---- registers ----

    def check_defined(self, reg: Reg, defined):
        missing = np.ones(self.lanes, bool) if defined is None else ~defined
        if self.mask is not None:
            missing = missing & self.mask
        if missing.any():
            raise self.fault(
                "uninitialised", f"register {reg.name}", int(np.flatnonzero(missing)[0])
            )

    def write(self, index: int, value):
        if self.mask is None:
            self.regs[index] = value
            self.defined[index] = True
            return
        self.regs[index] = np.where(self.mask, value, self.regs[index])
        defined = self.defined[index]
        if defined is None:
            self.defined[index] = self.mask
        elif defined is not True:
            self.defined[index] = defined | self.mask

    def active(self) -> np.ndarray:
        """Indices of the active lanes."""
        if self.lanes_of_mask is None:
            if self.mask is None:
                self.lanes_of_mask = np.arange(self.lanes)
            else:
                self.lanes_of_mask = np.flatnonzero(self.mask)
        return self.lanes_of_mask

    def spread(self, value) -> np.ndarray:
        """A value a lane, of the active lanes only."""
        if len(value) == 1:
            return np.repeat(value, len(self.active()))
        return value if self.mask is None else value[self.active()]

    def scatter(self, value) -> np.ndarray:
        """The opposite: values of the active lanes to one element a lane."""
        if self.mask is None:
            return value
        full = np.zeros(self.lanes, value.dtype)
        full[self.active()] = value
        return full

    def special(self, name: str) -> np.ndarray:
        if name not in self.specials:
            self.specials[name] = np.atleast_1d(self.compute_special(name)).astype(np.uint32)
        return self.specials[name]

    def compute_special(self, name: str):
        m, lane = self.machine, self.thread % 32
        base, _, dim = name.partition(".")
        d = "xyz".find(dim)
        if base == "%tid":
            return self.thread // int(np.prod(m.block[:d])) % m.block[d]
        if base == "%ctaid":
            number = m.block_numbers[self.slot]
            return number // int(np.prod(m.grid[:d])) % m.grid[d]
        bits = {"eq": 1 << lane, "lt": (1 << lane) - 1, "le": (2 << lane) - 1}
        bits["gt"], bits["ge"] = 0xFFFFFFFF ^ bits["le"], 0xFFFFFFFF ^ bits["lt"]
        return {
            "%ntid": m.block[d],
            "%nctaid": m.grid[d],
            "%laneid": lane,
            "%warpid": self.thread // 32,
            "%nwarpid": -(-m.threads // 32),
            "%dynamic_smem_size": m.dynamic_shared,
            "%total_smem_size": m.program.static_shared + m.dynamic_shared,
        }.get(base, bits.get(base[-2:]))

    def code(self) -> np.ndarray:
        """The shadow code (see memory.Shadow) of each active lane."""
        lanes = self.active()
        slot = self.slot[lanes]
        m = self.machine
        return Shadow.code(
            m.block_numbers[slot], m.epoch[slot], self.syn[lanes], self.thread[lanes]
        )

    def fault(self, kind: str, message: str, lane: int) -> PtxFault:
        """A fault at a lane of the team."""
        block = int(self.machine.block_numbers[self.slot[lane]])
        return PtxFault(kind, message, where=f"block {block}, thread {int(self.thread[lane])}")

    # ---- flow ----

    def pick(self, blocks) -> int | None:
        """Chooses the block of code to run and sets the mask; None when all wait or have exited."""
        if self.pc is not None:
            if self.pc == EXIT or self.waiting[0]:
                return None
            self.mask = self.lanes_of_mask = None
            members = blocks[self.pc].members
            if members is None or (self.exists.all() and (members(self) == 0xFFFFFFFF).all()):
                return self.pc
        while True:
            if self.pc is not None:
                ready = np.ones(self.lanes, bool)
                pcs = np.full(self.lanes, self.pc, np.int32)
            else:
                pcs = self.pcs
                ready = (pcs != EXIT) & ~self.waiting
            free = ready & ~self.held
            if not free.any():
                if self.held.any():
                    lane = int(np.flatnonzero(self.held)[0])
                    ins = blocks[pcs[lane]].instructions[0]
                    fault = self.fault("deadlock", f"{ins.opcode} waits for lanes elsewhere", lane)
                    fault.line = ins.line
                    raise fault
                return None
            pc = int(pcs[free].min())
            mask = free & (pcs == pc)
            self.set_mask(mask)
            if blocks[pc].members is None:
                break
            complete = self.complete(blocks[pc], mask)
            self.held |= mask & ~complete
            if (mask & complete).any():
                self.set_mask(mask & complete)
                break
        self.held[:] = False
        return pc

    def set_mask(self, mask):
        self.mask, self.lanes_of_mask = (None if mask.all() else mask), None

    def complete(self, block, mask) -> np.ndarray:
        """Of each active lane, whether all lanes that the instruction waits for are here."""
        try:
            members = np.broadcast_to(block.members(self), self.lanes).reshape(-1, 32)
        except PtxFault as fault:
            fault.line = fault.line or block.instructions[0].line
            raise
        bit = np.uint32(1) << np.arange(32, dtype=np.uint32)
        here = (mask.reshape(-1, 32) * bit).sum(1, dtype=np.uint32)
        exist = (self.exists.reshape(-1, 32) * bit).sum(1, dtype=np.uint32)
        wanted = members & exist[:, None]
        outsider = mask.reshape(-1, 32) & ((members & bit) == 0)
        if outsider.any():
            lane = int(np.flatnonzero(outsider.ravel())[0])
            raise self.fault("divergence", "a lane that its own member mask leaves out", lane)
        return ((wanted & ~here[:, None]) == 0).ravel()

    def jump(self, taken, target: int, other: int):
        """Active lanes where `taken` go to `target`, the others to `other`."""
        if self.pc is not None and self.mask is None:
            if len(taken) == 1 or taken.all() or not taken.any():
                self.pc = target if taken[0] else other
                return
            self.pcs = np.where(taken, target, other).astype(np.int32)
            self.pc = None
            return
        if self.pc is not None:  # only some lanes of a warp-wide instruction went on
            self.pcs, self.pc = np.full(self.lanes, self.pc, np.int32), None
        goto = np.where(taken, target, other).astype(np.int32)
        self.pcs = (
            np.where(self.mask, goto, self.pcs)
            if self.mask is not None
            else (np.broadcast_to(goto, self.lanes).copy())
        )
        self.regroup()

    def wait(self, taken, pc: int):
        """Active lanes where `taken` wait at the barrier that ends block `pc`."""
        if self.pc is not None:
            self.pcs, self.pc = np.full(self.lanes, self.pc, np.int32), None
        active = np.ones(self.lanes, bool) if self.mask is None else self.mask
        self.waiting |= active & taken
        self.pcs = np.where(active & ~np.broadcast_to(taken, self.lanes), pc + 1, self.pcs)

    def regroup(self):
        first = self.pcs[0]
        if not self.waiting.any() and self.exists.all() and (self.pcs == first).all():
            self.pc = int(first)
        else:
            self.pc = None


class Machine:
    """One launch of one kernel."""

    def __init__(self, program: Compiler, memory: Memory, grid, block, params: bytes, dynamic: int):
        self.program, self.memory, self.params = program, memory, params
        self.grid, self.block = grid, block
        self.threads = int(np.prod(block))
        self.dynamic_shared = dynamic
        self.shared_bytes = program.dynamic_start + (dynamic if program.uses_dynamic else 0)
        self.register_types = [RAW_OF[WIDTH[r.type]] for r in program.kernel.registers]
        self.stats = Stats()
        self.symbols: dict[str, int] = {}
        self.steps = 0

    def run(self, order: str, lanes: int, max_steps: int):
        count = int(np.prod(self.grid))
        per_block = -(-self.threads // 32) * 32
        in_team = per_block if order == "together" else 32
        slots = max(1, min(count, lanes // in_team, (64 << 20) // max(1, self.shared_bytes)))
        self.max_steps = max_steps
        starts = range(0, count, slots)
        for start in reversed(starts) if order == "backward" else starts:
            self.block_numbers = np.arange(start, min(count, start + slots), dtype=I64)
            self.run_blocks(order, per_block, in_team)

    def run_blocks(self, order: str, per_block: int, in_team: int):
        slots = len(self.block_numbers)
        size = -(-max(self.shared_bytes, 1) // 128) * 128
        self.shared = np.full((slots, size), 0xCD, np.uint8)
        self.shared_init = np.zeros((slots, size), bool)
        self.shared_shadow = Shadow(slots * size // self.program.shared_granule)
        self.epoch = np.zeros(slots, I64)
        self.block_loads: list[np.ndarray] = []
        teams = [
            Team(self, slots, np.arange(first, first + in_team))
            for first in range(0, per_block, in_team)
        ]
        if order == "backward":
            teams.reverse()
        while True:
            for team in teams:
                self.run_team(team)
            if not self.release(teams, slots):
                break
        if self.block_loads:
            self.stats.block_sectors += len(np.unique(np.concatenate(self.block_loads)))

    def run_team(self, team: Team):
        blocks = self.program.blocks
        while (pc := team.pick(blocks)) is not None:
            self.steps += 1
            if self.steps > self.max_steps:
                raise PtxFault("timeout", f"more than {self.max_steps} blocks of code were run")
            block = blocks[pc]
            self.count(block, team)
            n = 0
            try:
                for n, run in enumerate(block.code):  # noqa: B007
                    run(team)
                n = len(block.instructions) - 1
                self.leave(block, pc, team)
            except PtxFault as fault:
                fault.line = fault.line or block.instructions[n].line
                raise

    def leave(self, block, pc: int, team: Team):
        always = np.ones(1, bool)
        taken = block.guard(team) if block.guard is not None else always
        if block.end == "fall":
            team.jump(always, pc + 1, pc + 1)
        elif block.end == "bra":
            team.jump(taken, block.target, pc + 1)
        elif block.end == "exit":
            team.jump(taken, EXIT, pc + 1)
        else:
            if block.bar_threads not in (None, self.threads):
                raise PtxFault("unsupported", "a barrier for a part of the block")
            team.wait(taken, pc)

    def count(self, block, team: Team):
        warps = team.warps
        if team.mask is not None:
            warps = int(team.mask.reshape(-1, 32).any(1).sum())
        if block.instructions and block.instructions[0].line not in self.stats.reached:
            self.stats.reached.update(i.line for i in block.instructions)
        for name, n in block.counts.items():
            self.stats.instructions[name] += n * warps

    def release(self, teams: list[Team], slots: int) -> bool:
        """Opens the barriers at which a whole block waits; False when all blocks are done."""
        low = np.full(slots, EXIT, np.int32)
        high = np.full(slots, -1, np.int32)
        for t in teams:
            pcs = np.full(t.lanes, t.pc, np.int32) if t.pc is not None else t.pcs
            low = np.minimum(low, np.where(t.exists, pcs, EXIT).reshape(slots, -1).min(1))
            high = np.maximum(high, np.where(t.exists, pcs, -1).reshape(slots, -1).max(1))
        split = low != high
        if split.any():
            self.report_divergence(teams, int(np.flatnonzero(split)[0]))
        alive = low != EXIT
        self.epoch += alive
        self.stats.barriers += int(alive.sum())
        for t in teams:
            pcs = np.full(t.lanes, t.pc, np.int32) if t.pc is not None else t.pcs
            t.pcs = np.where(t.waiting, pcs + 1, pcs).astype(np.int32)
            t.waiting[:] = False
            t.regroup()
        return bool(alive.any())

    def report_divergence(self, teams: list[Team], slot: int):
        places = Counter()
        for t in teams:
            pcs = np.full(t.lanes, t.pc, np.int32) if t.pc is not None else t.pcs
            places.update(pcs[(t.slot == slot) & t.exists].tolist())
        blocks = self.program.blocks
        text = ", ".join(
            f"{n} threads "
            + ("have exited" if pc == EXIT else f"wait at line {blocks[pc].instructions[-1].line}")
            for pc, n in sorted(places.items())
        )
        where = f"block {int(self.block_numbers[slot])}"
        raise PtxFault("divergence", f"a barrier is not reached by all: {text}", where=where)


RAW_OF = {0: np.bool_, 1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
PACK = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
PACK |= {f"u{8 * w}": t for w, t in RAW_OF.items() if w} | {
    f"b{8 * w}": t for w, t in RAW_OF.items()
}
PACK |= {"s8": np.int8, "s16": np.int16, "s32": np.int32, "s64": np.int64}


def pack(program: Compiler, args) -> bytes:
    """Arguments (numbers, or bytes for `.b8 p[n]`) as the kernel's parameter block."""
    params = program.kernel.params
    if len(args) != len(params):
        raise PtxFault("launch", f"{len(args)} arguments for {len(params)} parameters")
    block = bytearray(program.param_bytes)
    for variable, value in zip(params, args, strict=True):
        at, size = program.params[variable.name]
        if isinstance(value, bytes):
            data = value
        else:
            kind = PACK[variable.type]
            data = np.asarray(value).astype(kind, casting="unsafe").tobytes()
        if len(data) != size:
            raise PtxFault("launch", f"{len(data)} bytes for {variable.name}, which has {size}")
        block[at : at + size] = data
    return bytes(block)


def as_dim3(value) -> tuple[int, int, int]:
    value = (value,) if isinstance(value, int) else tuple(int(v) for v in value)
    return (*value, *(1,) * (3 - len(value)))


def check_limits(program: Compiler, grid, block, dynamic: int, max_dynamic: int):
    """The limits of every device from sm_75 on, and those that the kernel itself declares."""
    for d, limit in enumerate((2**31 - 1, 65535, 65535)):
        if not 1 <= grid[d] <= limit:
            raise PtxFault("launch", f"grid {grid}: dimension {'xyz'[d]} must be 1 to {limit}")
    for d, limit in enumerate((1024, 1024, 64)):
        if not 1 <= block[d] <= limit:
            raise PtxFault("launch", f"block {block}: dimension {'xyz'[d]} must be 1 to {limit}")
    threads = int(np.prod(block))
    if threads > 1024:
        raise PtxFault("launch", f"block {block} has {threads} threads; the limit is 1024")
    directives = program.kernel.directives
    if (most := directives.get(".maxntid")) and threads > np.prod(most):
        raise PtxFault("launch", f"{threads} threads, but .maxntid is {most}")
    if (exact := directives.get(".reqntid")) and tuple(block) != as_dim3(exact):
        raise PtxFault("launch", f"block {block}, but .reqntid is {exact}")
    if program.static_shared > 48 << 10:
        raise PtxFault("launch", f"{program.static_shared} bytes of static shared memory > 48 KiB")
    if dynamic < 0 or dynamic + program.static_shared > max_dynamic:
        raise PtxFault(
            "launch", f"{dynamic} + {program.static_shared} bytes of shared memory > {max_dynamic}"
        )


class Program:
    """A PTX module ready to launch its kernels."""

    def __init__(self, text: str):
        self.module: Module = parse(text)
        self.compiled = {n: Compiler(self.module, k) for n, k in self.module.kernels.items()}

    def launch(
        self,
        kernel: str,
        grid,
        block,
        args,
        memory: Memory,
        *,
        dynamic_shared: int = 0,
        max_dynamic: int = 48 << 10,
        order: str = "forward",
        lanes: int = 8192,
        max_steps: int = 2_000_000,
    ) -> Stats:
        """Runs a kernel. `args` has a number a parameter, or is the packed parameter block.

        Raises PtxFault at the first thing that is wrong. `order`: which warps run first.
        """
        if kernel not in self.compiled:
            raise PtxFault("launch", f"no kernel {kernel}; there are {', '.join(self.compiled)}")
        if order not in ORDERS:
            raise ValueError(f"order {order!r} is none of {ORDERS}")
        program = self.compiled[kernel]
        grid, block = as_dim3(grid), as_dim3(block)
        check_limits(program, grid, block, dynamic_shared, max_dynamic)
        params = args if isinstance(args, bytes) else pack(program, args)
        if len(params) != program.param_bytes:
            raise PtxFault("launch", f"{len(params)} parameter bytes, not {program.param_bytes}")
        machine = Machine(program, memory, grid, block, params, dynamic_shared)
        constants = self.load_globals(program, machine, memory)
        for buffer in memory:
            buffer.reset()
        try:
            with np.errstate(all="ignore"):
                machine.run(order, lanes, max_steps)
        finally:
            for base in constants:
                memory.free(base)
        self.summarize(machine.stats, memory)
        return machine.stats

    @staticmethod
    def load_globals(program: Compiler, machine: Machine, memory: Memory) -> list[int]:
        bases = []
        for v in program.globals:
            if v.size is None:
                raise PtxFault("launch", f"{v.name} is extern")
            data = np.frombuffer(v.data or bytes(v.size), np.uint8)
            base = memory.alloc(data, name=v.name, const=True, align=v.align)
            machine.symbols[v.name] = base
            bases.append(base)
        return bases

    @staticmethod
    def summarize(stats: Stats, memory: Memory):
        for kind in ("ld", "st"):
            touched = [b.touched[kind][: b.size] for b in memory if b.touched[kind].any()]
            stats.unique_bytes[kind] = int(sum(t.sum() for t in touched))
            padded = [np.pad(t, (0, -len(t) % 32)).reshape(-1, 32) for t in touched]
            stats.unique_sectors[kind] = int(sum(p.any(1).sum() for p in padded))


__all__ = ["Buffer", "Machine", "Memory", "Program", "PtxFault", "Stats", "Traffic"]
