"""Byte-addressed memory with exact bounds, and shadows that say who touched which byte.

Global memory is a set of buffers at addresses; between them nothing may be touched. Shared memory
is one row a block. A `Shadow` keeps, per granule (the narrowest access), the last writer and the
readers since; two threads that no barrier orders and of which one writes are a race.
"""

from __future__ import annotations

import bisect

import numpy as np

from .faults import PtxFault

I64, U8 = np.int64, np.uint8
ELEMENT = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
GUARD = 256
SHARED_WINDOW = 1 << 60
LOCAL_WINDOW = 1 << 61


class Shadow:
    """Who wrote a granule last, and who has read it, as one code each: block, epoch, warp epoch,
    thread. An epoch ends at the block's barrier, a warp epoch at the warp's bar.warp.sync."""

    WARP_OF = 1024  # thread field: 1024 + w: several lanes of warp w
    MANY = 2047  # several warps of the block
    ALL = -2  # the whole code: several blocks
    NONE = -1

    def __init__(self, granules: int):
        self.writer = np.full(granules, self.NONE, I64)
        self.reader = np.full(granules, self.NONE, I64)

    @staticmethod
    def code(block, epoch, syn, thread):
        return (block << I64(42)) | (epoch << I64(24)) | ((syn & I64(4095)) << I64(12)) | thread

    @classmethod
    def conflict(cls, old, new):
        """0 none, 1 within a warp, 2 between warps, 3 between blocks; new is one thread's code."""
        other_block = (old == cls.ALL) | ((old >= 0) & ((old >> 42) != (new >> 42)))
        same_epoch = (old >= 0) & ((old >> 24) == (new >> 24))
        thread, me = old & 4095, new & 4095
        warp = np.where(thread < cls.WARP_OF, thread >> 5, thread - cls.WARP_OF)
        same_warp = warp == (me >> 5)
        synced = same_warp & (((old >> 12) & 4095) != ((new >> 12) & 4095))
        race = same_epoch & (thread != me) & ~synced
        return np.where(other_block, 3, np.where(race, np.where(same_warp, 1, 2), 0))

    @classmethod
    def check(cls, old, new):
        """conflict, quickly where nothing happened before."""
        quiet = (old == cls.NONE) | (old == new)
        return np.zeros(len(old), I64) if quiet.all() else cls.conflict(old, new)

    @classmethod
    def merge(cls, old, new):
        """The readers `old` with one more (or with another such set)."""
        newer = (old == cls.NONE) | ((old >> 24) < (new >> 24))
        thread, me = old & 4095, new & 4095
        warp = np.where(thread < cls.WARP_OF, thread >> 5, thread - cls.WARP_OF)
        mine = np.where(me < cls.WARP_OF, me >> 5, me - cls.WARP_OF)
        several = (np.maximum(old, new) & ~I64(4095)) | np.where(
            warp == mine, cls.WARP_OF + mine, cls.MANY
        )
        merged = np.where(thread == me, np.maximum(old, new), several)
        # What a warp read before its last barrier is nothing to it, and to others like this read.
        synced = (warp == mine) & ((old >> 24) == (new >> 24)) & ((old >> 12) < (new >> 12))
        merged = np.where(newer | synced, new, merged)
        other_block = (old == cls.ALL) | ((old >= 0) & ((old >> 42) != (new >> 42)))
        return np.where(new == cls.ALL, cls.ALL, np.where(other_block, cls.ALL, merged))

    def read(self, at, me):
        conflict = self.check(self.writer[at], me)
        old = self.reader[at]
        fresh = (old != me) & (old != self.ALL)  # else there is nothing to add
        if not fresh.any():
            return conflict
        at = at[fresh]
        new = self.merge(old[fresh], me[fresh])
        self.reader[at] = new
        while True:  # several lanes of this instruction may have read one granule
            got = self.reader[at]
            merged = np.where(got == new, got, self.merge(got, new))
            changed = merged != got
            if not changed.any():
                return conflict
            self.reader[at[changed]] = merged[changed]

    def write(self, at, me):
        conflict = np.maximum(self.check(self.writer[at], me), self.check(self.reader[at], me))
        self.writer[at] = me
        # Of several lanes that wrote one granule in this instruction one won: the others see it.
        return np.maximum(conflict, self.check(self.writer[at], me))


RACE = {1: "within a warp", 2: "between warps", 3: "between blocks"}


class Buffer:
    """Bytes at an address. The storage is padded so that wide views of it exist."""

    def __init__(self, base: int, data: np.ndarray, size: int, *, name="", const=False, init=True):
        assert base % 8 == 0 and len(data) % 16 == 0 and len(data) >= size
        self.base, self.data, self.size, self.name, self.const = base, data, size, name, const
        self.init = None if init else np.zeros(len(data), bool)
        self.reset()

    def reset(self):
        """Forgets what an earlier launch touched."""
        self.shadow: Shadow | None = None
        self.granule = 0
        self.nc = None
        self.touched = {"ld": np.zeros(len(self.data), bool), "st": np.zeros(len(self.data), bool)}

    def track(self, granule: int):
        if self.shadow is None:
            self.shadow, self.granule = Shadow(-(-len(self.data) // granule)), granule
            self.nc = np.zeros(len(self.data), bool)


class Memory:
    """The device's global memory."""

    def __init__(self, base: int = 0x7F0000000000):
        self.next = base
        self.bases: list[int] = []
        self.buffers: dict[int, Buffer] = {}

    def add(self, buffer: Buffer) -> Buffer:
        bisect.insort(self.bases, buffer.base)
        self.buffers[buffer.base] = buffer
        return buffer

    def alloc(self, what, *, name="", const=False, align=256) -> int:
        """Allocates a number of bytes (uninitialised), or a copy of an array; its address, which
        is aligned no better than asked for (but to 8 bytes)."""
        init = not isinstance(what, int)
        raw = np.frombuffer(np.ascontiguousarray(what).tobytes(), U8) if init else None
        size = len(raw) if init else what
        data = np.full(-(-max(size, 1) // 256) * 256, 0xCD, U8)
        if init:
            data[:size] = raw
        base = self.next + (max(align, 8) if align < 256 else 0)
        self.next = -(-(base + len(data)) // 256) * 256 + GUARD
        self.add(Buffer(base, data, size, name=name, const=const, init=init))
        return base

    def free(self, base: int):
        if base not in self.buffers:
            raise PtxFault("bounds", f"free of {base:#x}, where no allocation begins")
        self.bases.remove(base)
        del self.buffers[base]

    def read(self, base: int, dtype, shape) -> np.ndarray:
        """A copy of what lies at the beginning of a buffer, which must have been written."""
        buffer = self.buffers[base]
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert count <= buffer.size
        if buffer.init is not None and not buffer.init[:count].all():
            first = int(np.flatnonzero(~buffer.init[:count])[0])
            raise PtxFault("uninitialised", f"byte {first} of {buffer.name or hex(base)}")
        return buffer.data[:count].view(dtype).reshape(shape).copy()

    def find(self, address: int) -> Buffer | None:
        i = bisect.bisect_right(self.bases, address) - 1
        return self.buffers[self.bases[i]] if i >= 0 else None

    def locate(self, address: np.ndarray, nbytes: int):
        """Yields (buffer, which lanes or None for all, offsets); an access lies in one buffer."""
        rest = None
        while True:
            lanes = address if rest is None else address[rest]
            if len(lanes) == 0:
                return
            buffer = self.find(int(lanes[0]))
            offset = lanes - I64(buffer.base if buffer else 0)
            if buffer is None or not 0 <= offset[0] <= buffer.size - nbytes:
                self.outside(int(lanes[0]), nbytes, buffer, 0 if rest is None else int(rest[0]))
            inside = (offset >= 0) & (offset <= buffer.size - nbytes)
            if inside.all():
                yield buffer, rest, offset
                return
            lane = np.flatnonzero(inside)
            yield buffer, lane if rest is None else rest[lane], offset[lane]
            other = np.flatnonzero(~inside)
            rest = other if rest is None else rest[other]

    @staticmethod
    def outside(address: int, nbytes: int, buffer: Buffer | None, lane: int):
        near = ""
        if buffer is not None:
            name = buffer.name or hex(buffer.base)
            near = f"; offset {address - buffer.base} of {name}, which has {buffer.size} bytes"
        fault = PtxFault("bounds", f"{nbytes} bytes at {address:#x}{near}")
        fault.lane = lane
        raise fault

    def __iter__(self):
        return iter(self.buffers.values())
