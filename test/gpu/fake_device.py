"""The device behind fake_cuda.c: a process that maps the driver's memory and interprets launches.

It reads lines from a socket: a command (see `Device`), answered by a CUresult and a text. A module
is also given to ptxas, as the driver's own compiler would be, for registers and for errors.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import traceback

import numpy as np
import toolchain
from ptx import Buffer, Memory, Program, PtxFault
from ptx.machine import as_dim3, check_limits

SUCCESS, INVALID_VALUE, NO_BINARY, INVALID_PTX, NOT_FOUND, UNKNOWN = 0, 1, 209, 218, 500, 999
ILLEGAL_ADDRESS, OUT_OF_RESOURCES, MISALIGNED, LAUNCH_FAILED = 700, 701, 716, 719
RESULT = {"bounds": ILLEGAL_ADDRESS, "alignment": MISALIGNED, "launch": INVALID_VALUE}


class DriverError(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class DeviceMemory(Memory):
    """One device's buffers, inside the arena that the driver has mapped too."""

    def free(self, base: int):
        if base not in self.buffers:
            raise DriverError(INVALID_VALUE, f"free of {base:#x}, where no allocation begins")
        super().free(base)


class Device:
    """Each method that a command names takes its words and returns the text of the answer."""

    def __init__(self, stream, arena: np.ndarray):
        self.stream, self.arena = stream, arena
        self.base = self.capability = 0
        self.memories: dict[int, DeviceMemory] = {}
        self.modules: dict[str, tuple[Program, toolchain.Assembled]] = {}
        self.order = os.environ.get("FAKE_CUDA_ORDER", "forward")

    def init(self, base: str, capability: str):
        self.base, self.capability = int(base), int(capability)

    def alloc(self, address: str, size: str, device: str):
        base, size = int(address), int(size)
        offset, padded = base - self.base, -(-size // 256) * 256
        memory = self.memories.setdefault(int(device), DeviceMemory())
        data = self.arena[offset : offset + padded]
        memory.add(Buffer(base, data, size, name=f"allocation {base:#x}", init=False))

    def buffer(self, address: int, size: int, what: str) -> tuple[Buffer, int]:
        for memory in self.memories.values():
            found = memory.find(address)
            if found and address + size <= found.base + found.size:
                return found, address - found.base
        raise DriverError(
            INVALID_VALUE, f"{what} of {size} bytes at {address:#x}: no such allocation"
        )

    def free(self, address: str):
        buffer, _ = self.buffer(int(address), 1, "free")
        for memory in self.memories.values():
            if memory.find(int(address)) is buffer:
                memory.free(int(address))
        return str(buffer.size)

    def write(self, address: str, size: str):
        buffer, offset = self.buffer(int(address), int(size), "a write")
        buffer.init[offset : offset + int(size)] = True

    def read(self, address: str, size: str):
        buffer, offset = self.buffer(int(address), int(size), "a read")
        missing = np.flatnonzero(~buffer.init[offset : offset + int(size)])
        if len(missing):
            at = offset + int(missing[0])
            raise DriverError(INVALID_VALUE, f"byte {at} of {buffer.name} is read, never written")

    def module(self, name: str, size: str):
        text = self.stream.read(int(size)).decode().rstrip("\0")
        try:
            program = Program(text)
        except PtxFault as fault:
            raise DriverError(INVALID_PTX, str(fault)) from fault
        self.check_target(program.module.target)
        assembled = toolchain.assemble(text, self.chip)
        if assembled.errors:
            raise DriverError(INVALID_PTX, assembled.errors)
        self.modules[name] = program, assembled

    @property
    def chip(self) -> str:
        return f"sm_{self.capability}"

    def check_target(self, target: str):
        number = int("".join(c for c in target.split(",")[0] if c.isdigit()))
        exact = target.rstrip()[-1] in "af"
        if number > self.capability or (exact and number != self.capability):
            raise DriverError(NO_BINARY, f".target {target} on a device of sm_{self.capability}")

    def unload(self, name: str):
        del self.modules[name]

    def function(self, module: str, name: str):
        program, assembled = self.modules[module]
        if name not in program.compiled:
            raise DriverError(NOT_FOUND, f"no kernel {name} in the module")
        compiled, used = program.compiled[name], assembled.kernels[name]
        limits = compiled.kernel.directives
        most = limits.get(".maxntid") or limits.get(".reqntid") or (1024,)
        threads = min(int(np.prod(most)), 1024, 65536 // max(1, -(-used.registers // 8) * 8))
        params = [f"{offset} {size}" for offset, size in compiled.params.values()]
        head = f"{used.registers} {compiled.static_shared} {threads} {compiled.param_bytes}"
        return f"{head} {len(params)} {' '.join(params)}"

    def check(self, _launch: str, module: str, name: str, *numbers: str):
        """What the driver says of a launch at once; the rest shows when it runs."""
        program, assembled = self.modules[module]
        gx, gy, gz, bx, by, bz, shared, max_shared, *_ = map(int, numbers)
        grid, block = as_dim3((gx, gy, gz)), as_dim3((bx, by, bz))
        try:
            check_limits(program.compiled[name], grid, block, shared, max_shared)
        except PtxFault as fault:
            raise DriverError(INVALID_VALUE, str(fault)) from fault
        registers = -(-assembled.kernels[name].registers // 8) * 8
        if registers * -(-bx * by * bz // 32) * 32 > 65536:
            raise DriverError(OUT_OF_RESOURCES, f"{bx * by * bz} threads of {registers} registers")

    def launch(self, module: str, name: str, *numbers: str):
        gx, gy, gz, bx, by, bz, shared, max_shared, device, size = map(int, numbers)
        params = self.stream.read(size)
        program, _ = self.modules[module]
        memory = self.memories.setdefault(device, DeviceMemory())
        program.launch(
            *(name, (gx, gy, gz), (bx, by, bz), params, memory),
            dynamic_shared=shared,
            max_dynamic=max_shared,
            order=self.order,
        )

    def answer(self, line: str) -> tuple[int, str]:
        command, *words = line.split()
        try:
            return SUCCESS, getattr(self, command)(*words) or ""
        except DriverError as error:
            return error.code, str(error)
        except PtxFault as fault:
            kernel = words[1] if command == "launch" else command
            return RESULT.get(fault.kind, LAUNCH_FAILED), f"{kernel}: {fault}"
        except Exception:
            traceback.print_exc()
            return UNKNOWN, traceback.format_exc(limit=-1)


def main():
    connection = socket.socket(fileno=int(sys.argv[1]))
    arena = np.frombuffer(mmap.mmap(int(sys.argv[2]), 0), np.uint8)
    stream = connection.makefile("rb")
    device = Device(stream, arena)
    for line in stream:
        code, text = device.answer(line.decode())
        text = " ".join(text.split())[:3000]
        connection.sendall(f"{code} {text}\n".encode())


if __name__ == "__main__":
    main()
