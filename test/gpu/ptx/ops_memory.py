"""Loads, stores, atomics and cp.async in every state space, with all that is checked and counted.

A global access costs the 32-byte sectors that a warp's lanes touch. A shared access costs the words
of its worst bank, per 32, 16 or 8 lanes as each lane takes up to 4, 8 or 16 bytes.
"""

from __future__ import annotations

import numpy as np

from .compiler import DTYPE, RAW, Compiler, op
from .faults import PtxFault
from .memory import LOCAL_WINDOW, RACE, SHARED_WINDOW
from .parse import WIDTH, Imm, Sym, Vec

I64, U64 = np.int64, np.uint64
ONES = {1: np.uint8(1), 2: np.uint16(0x0101), 4: np.uint32(0x01010101)}
ONES[8] = U64(0x0101010101010101)
SPACES = ("global", "shared", "shared::cta", "local", "param", "const")
CACHE = {"ld": ("ca", "cg", "cs", "lu", "cv"), "st": ("wb", "cg", "cs", "wt")}


# ---- what an access costs -----------------------------------------------------------------------


def distinct(rows):
    """For each sorted row: which elements are the first of their value and not -1."""
    first = np.ones(rows.shape, bool)
    first[:, 1:] = rows[:, 1:] != rows[:, :-1]
    return first & (rows >= 0)


def by_warp(t, address):
    """Addresses as one row of 32 a warp; -1 where a lane is inactive."""
    if t.mask is None:
        return address.reshape(-1, 32)
    full = np.full(t.lanes, -1, I64)
    full[t.active()] = address
    return full.reshape(-1, 32)


def add_traffic(t, total, line, requests, sectors, ideal, nbytes):
    by_line = t.machine.stats.by_line
    if line not in by_line:
        by_line[line] = type(total)()
    for traffic in (total, by_line[line]):
        traffic.requests += int(requests)
        traffic.sectors += int(sectors)
        traffic.ideal += int(ideal)
        traffic.bytes += int(nbytes)


def count_sectors(t, kind, line, address, nbytes):
    rows = np.sort(by_warp(t, address), axis=1)
    sectors = distinct(rows >> 5 if nbytes <= 32 else rows).sum(1)
    ideal = -(-distinct(rows).sum(1) * nbytes // 32)
    stats = t.machine.stats
    total = stats.loads if kind == "ld" else stats.stores
    add_traffic(
        t, total, line, (sectors > 0).sum(), sectors.sum(), ideal.sum(), len(address) * nbytes
    )


def count_banks(t, line, address, nbytes):
    words = max(1, nbytes // 4)
    rows = by_warp(t, address)
    active = (rows >= 0).reshape(-1, 32 // words)
    rows = (rows // 4).reshape(-1, 32 // words)
    if words > 1:
        rows = np.where(active[:, :, None], rows[:, :, None] + np.arange(words), -1)
        rows = rows.reshape(len(rows), -1)
    else:
        rows = np.where(active, rows, -1)
    rows = np.sort(rows, axis=1)
    row, column = np.nonzero(distinct(rows))
    banks = np.bincount(row * 32 + rows[row, column] % 32, minlength=32 * len(rows))
    waves = banks.reshape(-1, 32).max(1)
    requests = (by_warp(t, address) >= 0).any(1).sum()
    total = t.machine.stats.shared
    add_traffic(t, total, line, requests, waves.sum(), (waves > 0).sum(), len(address) * nbytes)


# ---- what an access may not do ------------------------------------------------------------------


def first_lane(t, bad) -> int:
    return int(t.active()[np.flatnonzero(bad)[0]])


def check_aligned(t, address, nbytes):
    bad = (address & I64(nbytes - 1)) != 0
    if bad.any():
        at = int(address[np.flatnonzero(bad)[0]])
        raise t.fault("alignment", f"{nbytes} bytes at {at:#x}", first_lane(t, bad))


def check_race(t, conflict, what, lanes=None):
    if conflict.any():
        worst = int(np.argmax(conflict))
        lane = worst if lanes is None else int(lanes[worst])
        kind = RACE[int(conflict[worst])]
        raise t.fault("race", f"{kind}, on {what}", int(t.active()[lane]))


def check_initialised(t, init, index, used, elem, what, lanes=None):
    view = init.view(RAW[elem])
    for k in used:
        bad = view[index + k] != ONES[elem]
        if bad.any():
            lane = int(np.flatnonzero(bad)[0])
            lane = lane if lanes is None else int(lanes[lane])
            raise t.fault("uninitialised", what, int(t.active()[lane]))


def runs(used, unit):
    """(first byte, number of bytes) of each run of neighbours among the units of an access."""
    used = list(used)
    start = 0
    for k in range(1, len(used) + 1):
        if k == len(used) or used[k] != used[k - 1] + 1:
            yield used[start] * unit, (k - start) * unit
            start = k


def granules(offset, nbytes, granule):
    """Each granule of each access, and the access that it belongs to."""
    n = max(1, nbytes // granule)
    at = (offset // granule)[:, None] + np.arange(n)
    return at.ravel(), np.repeat(np.arange(len(offset)), n)


# ---- global memory ------------------------------------------------------------------------------


def located(t, address, nbytes):
    """memory.locate, with the thread of a fault."""
    try:
        yield from t.machine.memory.locate(address, nbytes)
    except PtxFault as fault:
        lane = getattr(fault, "lane", None)
        if lane is not None and not fault.where:
            fault.where = t.fault("", "", int(t.active()[lane])).where
        raise


def mark(buffer, kind, index, used, elem):
    view = buffer.touched[kind].view(RAW[elem])
    for k in used:
        view[index + k] = ONES[elem]


def load_global(t, address, elem, count, line, used=None, nc=False):
    unit, used = used or (elem, range(count))
    nbytes = elem * count
    check_aligned(t, address, nbytes)
    count_sectors(t, "ld", line, address, nbytes)
    sectors = (t.slot[t.active()].astype(I64) << I64(44)) | (address >> 5)
    t.machine.block_loads.append(np.unique(sectors))
    out = np.empty((count, len(address)), RAW[elem])
    for buffer, lanes, offset in located(t, address, nbytes):
        index, view = offset // elem, buffer.data.view(RAW[elem])
        where = slice(None) if lanes is None else lanes
        name = buffer.name or hex(buffer.base)
        for k in range(count):
            out[k, where] = view[index + k]
        if buffer.init is not None:
            check_initialised(t, buffer.init, offset // unit, used, unit, name, lanes)
        mark(buffer, "ld", offset // unit, used, unit)
        for start, size in runs(used, unit):
            shadow_global(t, buffer, "ld", lanes, offset + I64(start), size, nc)
    return out


def store_global(t, address, elem, count, data, line):
    nbytes = elem * count
    check_aligned(t, address, nbytes)
    count_sectors(t, "st", line, address, nbytes)
    for buffer, lanes, offset in located(t, address, nbytes):
        if buffer.const:
            raise PtxFault("unsupported", f"a store to the module's own {buffer.name}")
        index, view = offset // elem, buffer.data.view(RAW[elem])
        where = slice(None) if lanes is None else lanes
        for k in range(count):
            view[index + k] = data[k][where]
        if buffer.init is not None:
            init = buffer.init.view(RAW[elem])
            for k in range(count):
                init[index + k] = ONES[elem]
        mark(buffer, "st", index, range(count), elem)
        shadow_global(t, buffer, "st", lanes, offset, nbytes)


def shadow_global(t, buffer, kind, lanes, offset, nbytes, nc=False):
    if buffer.const:
        return
    buffer.track(t.machine.program.global_granule)
    at, access = granules(offset, nbytes, buffer.granule)
    mine = access if lanes is None else lanes[access]
    code = t.code()[mine]
    if nc:
        buffer.nc[at] = True
    shadow = buffer.shadow
    conflict = shadow.read(at, code) if kind == "ld" else shadow.write(at, code)
    check_race(t, conflict, buffer.name or hex(buffer.base), mine)
    if (kind == "st" and buffer.nc[at].any()) or (nc and (shadow.writer[at] >= 0).any()):
        raise PtxFault("race", "ld.global.nc of what the kernel also writes")


# ---- shared and local memory --------------------------------------------------------------------


def shared_offsets(t, address, nbytes):
    """Checks addresses in the block's shared memory; offsets into the array of all blocks."""
    check_aligned(t, address, nbytes)
    valid = t.machine.program.shared_valid(t.machine.dynamic_shared)
    inside = (address >= 0) & (address + nbytes <= len(valid))
    if inside.all():
        inside = valid[address] & valid[address + (nbytes - 1)]
    if not inside.all():
        at = int(address[np.flatnonzero(~inside)[0]])
        raise t.fault("bounds", f"{nbytes} bytes at shared {at:#x}", first_lane(t, ~inside))
    return t.slot[t.active()] * t.machine.shared.shape[1] + address


def load_shared(t, address, elem, count, line, used=None):
    nbytes = elem * count
    unit, used = used or (elem, range(count))
    offset = shared_offsets(t, address, nbytes)
    count_banks(t, line, address, nbytes)
    m, index = t.machine, offset // elem
    check_initialised(t, m.shared_init.ravel(), offset // unit, used, unit, "shared memory")
    for start, size in runs(used, unit):
        shadow_shared(t, offset + I64(start), size, "ld")
    view = m.shared.ravel().view(RAW[elem])
    return [view[index + k] for k in range(count)]


def shadow_shared(t, offset, nbytes, kind):
    m = t.machine
    at, access = granules(offset, nbytes, m.program.shared_granule)
    shadow, code = m.shared_shadow, t.code()[access]
    conflict = shadow.read(at, code) if kind == "ld" else shadow.write(at, code)
    check_race(t, conflict, "shared memory", access)


def store_shared(t, address, elem, count, data, line):
    nbytes = elem * count
    offset = shared_offsets(t, address, nbytes)
    count_banks(t, line, address, nbytes)
    shadow_shared(t, offset, nbytes, "st")
    put_shared(t.machine, offset // elem, elem, data)


def put_shared(m, index, elem, data):
    view, init = m.shared.ravel().view(RAW[elem]), m.shared_init.ravel().view(RAW[elem])
    for k, values in enumerate(data):
        view[index + k] = values
        init[index + k] = ONES[elem]


def local_offsets(t, address, nbytes):
    check_aligned(t, address, nbytes)
    size = t.machine.program.local_bytes
    bad = (address < 0) | (address + nbytes > size)
    if bad.any():
        raise t.fault("bounds", f"{nbytes} bytes of local memory", first_lane(t, bad))
    stride = -(-size // 16) * 16
    if t.local is None:
        t.local = np.full(t.lanes * stride, 0xCD, np.uint8)
        t.local_init = np.zeros(t.lanes * stride, bool)
    return t.active() * stride + address


def load_local(t, address, elem, count, line, used=None):
    offset = local_offsets(t, address, elem * count)
    unit, used = used or (elem, range(count))
    check_initialised(t, t.local_init, offset // unit, used, unit, "local memory")
    index = offset // elem
    view = t.local.view(RAW[elem])
    return [view[index + k] for k in range(count)]


def store_local(t, address, elem, count, data, line):
    index = local_offsets(t, address, elem * count) // elem
    for k, values in enumerate(data):
        t.local.view(RAW[elem])[index + k] = values
        t.local_init.view(RAW[elem])[index + k] = ONES[elem]


# ---- generic addresses --------------------------------------------------------------------------


def generic(t, address):
    """(space, address in it); all lanes must be in one."""
    spaces = (address >= SHARED_WINDOW).astype(int) + (address >= LOCAL_WINDOW)
    if (spaces != spaces[0]).any():
        raise PtxFault("unsupported", "generic addresses of several state spaces at once")
    window = (0, SHARED_WINDOW, LOCAL_WINDOW)[spaces[0]]
    return ("global", "shared", "local")[spaces[0]], address - I64(window)


LOAD = {"global": load_global, "shared": load_shared, "local": load_local}
STORE = {"global": store_global, "shared": store_shared, "local": store_local}


# ---- ld and st ----------------------------------------------------------------------------------


def decode(c: Compiler, ins, mods):
    """(space, type, number of elements) of ld and st."""
    for word in ("weak", "volatile"):
        mods.flag(word)
    space = mods.one(*SPACES, default="generic").removesuffix("::cta")
    mods.one(*CACHE[mods.name], default="none")
    count = int(mods.one("v2", "v4", "v8", default="v1")[1:])
    type_ = mods.type(
        *(t for t in WIDTH if t not in ("pred", "f16x2", "bf16x2", "tf32", "f16", "bf16"))
    )
    if WIDTH[type_] * count > (32 if space == "global" else 16):
        mods.unsupported()
    note_width(c, space, WIDTH[type_])
    return space, type_, count


def note_width(c: Compiler, space: str, width: int):
    if space in ("shared", "generic"):
        c.shared_granule = min(c.shared_granule, width)
    if space in ("global", "generic"):
        c.global_granule = min(c.global_granule, width)


def elements(operand, count: int):
    items = list(operand.items) if isinstance(operand, Vec) else [operand]
    if len(items) != count:
        raise PtxFault("type", f"{len(items)} registers for {count} elements")
    return items


@op("ld")
def ld(c, ins, mods):
    nc = mods.flag("nc")
    space, type_, count = decode(c, ins, mods)
    into = elements(ins.operands[0], count)
    puts = [c.dst(o, type_, wider=True) for o in into]
    # LLVM fills gaps between the elements that it wants, for one wide access: what was never
    # written there, or is written by others just now, harms only whoever reads the register.
    used = c.used(into, WIDTH[type_]) if count > 1 else None
    if space == "param":
        return load_param(c, ins, type_, puts)
    if nc and space != "global":
        mods.unsupported()
    address, elem, line, dtype = c.address(ins.operands[1]), WIDTH[type_], ins.line, DTYPE[type_]

    def run(t):
        at, where = t.spread(address(t)), "global" if space == "const" else space
        if where == "generic":
            where, at = generic(t, at)
        extra = (nc,) if where == "global" else ()
        values = LOAD[where](t, at, elem, count, line, used, *extra)
        for put, value in zip(puts, values, strict=True):
            put(t, t.scatter(value).view(dtype))

    return run


def load_param(c: Compiler, ins, type_, puts):
    """Constant for the launch; inside the one parameter that the address names."""
    base = ins.operands[1].base
    if not isinstance(base, Sym) or base.name not in c.params:
        raise PtxFault("unsupported", "ld.param from what is no parameter of the kernel")
    start, size = c.params[base.name]
    elem, offset = WIDTH[type_], base.offset + ins.operands[1].offset
    nbytes = elem * len(puts)
    if offset < 0 or offset + nbytes > size:
        raise PtxFault("bounds", f"{nbytes} bytes at {offset} of {base.name}, which has {size}")
    if (start + offset) % nbytes:
        raise PtxFault("alignment", f"{nbytes} bytes at {offset} of {base.name}")
    if len(puts) == 1 and size in (1, 2, 4, 8) and elem != size:
        raise PtxFault("type", f".{type_} from {base.name}, which has {size} bytes")

    def run(t):
        data = np.frombuffer(t.machine.params, DTYPE[type_], len(puts), start + offset)
        for k, put in enumerate(puts):
            put(t, data[k : k + 1])

    return run


@op("st")
def st(c, ins, mods):
    space, type_, count = decode(c, ins, mods)
    if space in ("param", "const"):
        mods.unsupported()
    gets = [c.src(o, "b" + type_[1:], wider=True) for o in elements(ins.operands[1], count)]
    address, elem, line = c.address(ins.operands[0]), WIDTH[type_], ins.line

    def run(t):
        at, where = t.spread(address(t)), space
        if where == "generic":
            where, at = generic(t, at)
        STORE[where](t, at, elem, count, [t.spread(get(t)) for get in gets], line)

    return run


# ---- atomics ------------------------------------------------------------------------------------

ATOMIC = {
    "add": lambda old, x: old + x,
    "min": min,
    "max": max,
    "and": lambda old, x: old & x,
    "or": lambda old, x: old | x,
    "xor": lambda old, x: old ^ x,
    "exch": lambda old, x: x,
}


@op("atom", "red")
def atom(c, ins, mods):
    """Lane after lane. Atomics do not race with each other, nor (unseen) with others."""
    mods.one("relaxed", default="none")
    mods.one("gpu", "cta", default="none")
    space = mods.one("global", "shared", default="generic")
    operation = mods.one(*ATOMIC)
    type_ = mods.type("u32", "s32", "u64", "s64", "b32", "b64", "f32", "f64")
    legal = {"add": "usf", "min": "us", "max": "us"}.get(operation, "b")
    if type_[0] not in legal:
        mods.unsupported()
    operands = list(ins.operands)
    put = c.dst(operands.pop(0), type_) if mods.name == "atom" else None
    address, get, line = c.address(operands[0]), c.src(operands[1], type_), ins.line
    note_width(c, space, WIDTH[type_])
    dtype, elem, f = DTYPE[type_], WIDTH[type_], ATOMIC[operation]

    def run(t):
        at, where = t.spread(address(t)), space
        if where == "generic":
            where, at = generic(t, at)
        place = atomic_places(t, where, at, elem, line)
        old = np.empty(len(at), dtype)
        for i, (storage, x) in enumerate(zip(place, t.spread(get(t)), strict=True)):
            cell = storage.view(dtype)
            old[i] = cell[0]
            cell[0] = f(cell[0], x)
        if put:
            put(t, t.scatter(old))

    return run


def atomic_places(t, space, address, elem, line):
    """The bytes that each lane updates."""
    check_aligned(t, address, elem)
    if space == "shared":
        offset = shared_offsets(t, address, elem)
        count_banks(t, line, address, elem)
        init, data = t.machine.shared_init.ravel(), t.machine.shared.ravel()
        check_initialised(t, init, offset // elem, range(1), elem, "shared memory")
        return [data[o : o + elem] for o in offset]
    if space != "global":
        raise PtxFault("unsupported", f"atomics in {space} memory")
    count_sectors(t, "st", line, address, elem)
    places: list = [None] * len(address)
    for buffer, lanes, offset in located(t, address, elem):
        if buffer.init is not None:
            name = buffer.name or hex(buffer.base)
            check_initialised(t, buffer.init, offset // elem, range(1), elem, name, lanes)
        for kind in ("ld", "st"):
            mark(buffer, kind, offset // elem, range(1), elem)
        for lane, o in zip(range(len(offset)) if lanes is None else lanes, offset, strict=True):
            places[lane] = buffer.data[o : o + elem]
    return places


# ---- cp.async -----------------------------------------------------------------------------------


@op("cp")
def cp_async(c, ins, mods):
    """The data arrives in shared memory as late as it may: when its thread waits for its group."""
    if not mods.flag("async"):
        mods.unsupported()
    if mods.flag("commit_group"):
        return commit
    if mods.flag("wait_all"):
        return lambda t: land(t, 0, uncommitted=True)
    if mods.flag("wait_group"):
        pending = ins.operands[0].value
        return lambda t: land(t, pending, uncommitted=False)
    cache = mods.one("ca", "cg")
    if not (mods.one("shared", "shared::cta") and mods.one("global")):
        mods.unsupported()
    if len(ins.operands) != 3 or not isinstance(ins.operands[2], Imm):
        raise PtxFault("unsupported", "cp.async with a source size")
    nbytes = ins.operands[2].value
    if nbytes not in ((16,) if cache == "cg" else (4, 8, 16)):
        raise PtxFault("type", f"cp.async.{cache} of {nbytes} bytes")
    to, of, line = c.address(ins.operands[0]), c.address(ins.operands[1]), ins.line

    def run(t):
        data = load_global(t, t.spread(of(t)), 4, nbytes // 4, line)
        address = t.spread(to(t))
        offset = shared_offsets(t, address, nbytes)
        count_banks(t, line, address, nbytes)
        shadow_shared(t, offset, nbytes, "st")
        start_copies(t)
        lanes = t.active()
        t.copies.append((lanes, t.copy_group[lanes], offset, data))

    return run


def start_copies(t):
    if not hasattr(t, "copies"):
        t.copies, t.copy_group = [], np.zeros(t.lanes, I64)


def commit(t):
    start_copies(t)
    t.copy_group[t.active()] += 1


def land(t, pending: int, uncommitted: bool):
    """Writes the copies of the active lanes but those of their `pending` last groups."""
    start_copies(t)
    active = np.zeros(t.lanes, bool)
    active[t.active()] = True
    left = []
    for lanes, group, offset, data in t.copies:
        now = active[lanes] & (group < t.copy_group[lanes] - pending + int(uncommitted))
        put_shared(t.machine, offset[now] // 4, 4, data[:, now])
        if not now.all():
            left.append((lanes[~now], group[~now], offset[~now], data[:, ~now]))
    t.copies = left
