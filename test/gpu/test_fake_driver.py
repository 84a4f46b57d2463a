"""The fake CUDA driver: a launcher that does right, and each way of doing wrong it must notice.

Every test is a short launcher in ctypes, run in a process of its own: handles leak at its end.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fake_driver import FakeDriver

# y[i] = 2 x[i] for i < n
PTX = """.version 8.0
.target sm_75
.address_size 64
.visible .entry twice(.param .u64 x, .param .u64 y, .param .u32 n)
.maxntid 256, 1, 1
{
  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %rd<8>;
  .shared .align 4 .b8 s[4096];
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.s32 %p1, %r5, %r1;
  @%p1 bra DONE;
  mul.wide.s32 %rd3, %r5, 4;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  ld.global.f32 %f1, [%rd4];
  add.rn.f32 %f2, %f1, %f1;
  st.global.f32 [%rd5], %f2;
DONE:
  ret;
}
"""

PRELUDE = f"""
import array, ctypes
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
PTX = {PTX!r}
cuda = ctypes.CDLL("libcuda.so.1")

def cu(name, *args, expect=0):
    result = getattr(cuda, name)(*args)
    assert result == expect, (name, result, expect)

def new(name, *args, type=c_void_p):
    handle = type()
    cu(name, byref(handle), *args)
    return handle

def context(device=0):
    cu("cuInit", 0)
    c = new("cuDevicePrimaryCtxRetain", device)
    cu("cuCtxSetCurrent", c)
    return c

def kernel():
    module = new("cuModuleLoadDataEx", PTX.encode(), 0, None, None)
    return module, new("cuModuleGetFunction", module, b"twice")

def memory(size):
    return new("cuMemAlloc_v2", c_size_t(size), type=c_uint64)

def floats(n, value=0.0):
    return (ctypes.c_float * n)(*[value] * n)

def upload(pointer, values):
    cu("cuMemcpyHtoD_v2", pointer, values, c_size_t(ctypes.sizeof(values)))

def download(pointer, n, expect=0):
    values = floats(n)
    cu("cuMemcpyDtoH_v2", values, pointer, c_size_t(4 * n), expect=expect)
    return list(values)

def launch(f, args, grid=1, block=32, shared=0, stream=None, expect=0):
    pointers = (c_void_p * len(args))(*[ctypes.addressof(a) for a in args])
    cu("cuLaunchKernel", f, grid, 1, 1, block, 1, 1, shared, stream, pointers, None, expect=expect)

def ready(n=32):
    "context, kernel, x = 1.5 everywhere, y"
    c = context()
    module, f = kernel()
    x, y = memory(4 * n), memory(4 * n)
    upload(x, floats(n, 1.5))
    return f, x, y
"""


@pytest.fixture
def script(tmp_path):
    """Runs a launcher; returns the driver with its record and the finished process."""

    def run(body: str, **options):
        driver = FakeDriver(tmp_path, **options)
        done = driver.run([sys.executable, "-c", PRELUDE + textwrap.dedent(body)])
        assert done.returncode == 0, done.stderr
        return driver

    return run


def test_a_correct_launcher(script):
    driver = script(
        """
        c = context()
        module, f = kernel()
        x, y, n = memory(400), memory(400), c_int(100)
        s = new("cuStreamCreate", 1)
        values = (ctypes.c_float * 100)(*range(100))
        cu("cuMemcpyHtoDAsync_v2", x, values, c_size_t(400), s)
        launch(f, [x, y, n], grid=4, stream=s)
        out = floats(100)
        cu("cuMemcpyDtoHAsync_v2", out, y, c_size_t(400), s)
        assert not any(out), "the copy ran before anything waited for it"
        cu("cuStreamSynchronize", s)
        assert list(out) == [2 * i for i in range(100)]
        cu("cuStreamDestroy_v2", s); cu("cuMemFree_v2", x); cu("cuMemFree_v2", y)
        cu("cuModuleUnload", module); cu("cuCtxSetCurrent", None)
        cu("cuDevicePrimaryCtxRelease_v2", 0)
        """
    )
    driver.assert_clean(allow_leaks=())
    (launch,) = driver.launches()
    assert (launch["kernel"], launch["grid"], launch["block"]) == ("twice", [4, 1, 1], [32, 1, 1])
    assert launch["stream"] > 0


def test_leaks_are_named(script):
    driver = script("""ready(); new("cuStreamCreate", 0); new("cuEventCreate", 0)""")
    assert sorted(driver.leaks()) == ["context", "event", "memory", "module", "stream"]
    with pytest.raises(AssertionError, match="memory"):
        driver.assert_clean()


def test_a_fault_in_a_kernel_is_sticky(script):
    driver = script(
        """
        f, x, y = ready()
        launch(f, [x, y, c_int(33)], block=64)
        cu("cuCtxSynchronize", expect=700)
        cu("cuMemAlloc_v2", byref(c_uint64()), c_size_t(4), expect=700)
        """
    )
    (fault,) = driver.faults()
    assert "twice" in fault and "bounds" in fault and "thread 32" in fault


def test_use_after_free(script):
    driver = script(
        """
        f, x, y = ready()
        cu("cuMemFree_v2", x)
        launch(f, [x, y, c_int(32)])
        cu("cuCtxSynchronize", expect=700)
        """
    )
    assert "bounds" in driver.faults()[0]


def test_freeing_twice_and_copying_too_much(script):
    script(
        """
        f, x, y = ready()
        upload_too_much = floats(33)
        cu("cuMemcpyHtoD_v2", x, upload_too_much, c_size_t(132), expect=1)
        """
    )
    script("""f, x, y = ready(); cu("cuMemFree_v2", x); cu("cuMemFree_v2", x, expect=1)""")


def test_reading_what_was_never_written(script):
    driver = script("""f, x, y = ready(); download(y, 32, expect=1)""")
    assert "never written" in driver.faults()[0]


def test_handles(script):
    driver = script(
        """
        f, x, y = ready()
        args = [x, y, c_int(32)]
        s = new("cuStreamCreate", 0)
        cu("cuStreamDestroy_v2", s)
        launch(f, args, stream=s, expect=400)
        launch(c_void_p(12345), args, expect=400)
        cu("cuEventSynchronize", c_void_p(1), expect=400)
        cu("cuModuleGetFunction", byref(c_void_p()), f, b"twice", expect=400)
        module, f = kernel()
        cu("cuModuleGetFunction", byref(c_void_p()), module, b"thrice", expect=500)
        cu("cuModuleUnload", module)
        launch(f, args, expect=400)
        """
    )
    assert not driver.launches()
    assert any("no live stream" in f for f in driver.faults())


def test_launch_arguments_and_limits(script):
    driver = script(
        """
        f, x, y = ready()
        n = c_int(32)
        args = [x, y, n]
        launch(f, args, block=257, expect=1)       # .maxntid
        launch(f, args, grid=0, expect=1)
        launch(f, args, shared=(44 << 10) + 1, expect=1)   # beside 4096 static bytes: 48 KiB
        cu("cuFuncSetAttribute", f, 8, 222 << 10)
        launch(f, args, shared=222 << 10)
        cu("cuFuncSetAttribute", f, 8, 224 << 10, expect=1)
        cu("cuLaunchKernel", f, 1, 1, 1, 32, 1, 1, 0, None, None, None, expect=1)
        pointers = (c_void_p * 3)(ctypes.addressof(x), ctypes.addressof(y), 8)
        cu("cuLaunchKernel", f, 1, 1, 1, 32, 1, 1, 0, None, pointers, None, expect=1)
        packed = array.array("Q", [x.value, y.value, 32])
        size = c_size_t(20)
        extra = (c_void_p * 5)(1, packed.buffer_info()[0], 2, ctypes.addressof(size), 0)
        cu("cuLaunchKernel", f, 1, 1, 1, 32, 1, 1, 0, None, None, extra)
        size.value = 24
        cu("cuLaunchKernel", f, 1, 1, 1, 32, 1, 1, 0, None, None, extra, expect=1)
        assert download(y, 32) == [3.0] * 32
        """
    )
    assert len(driver.launches()) == 2
    assert any("argument 2 of 3" in f for f in driver.faults())


def test_images_that_the_device_cannot_run(script):
    driver = script(
        """
        context()
        log = ctypes.create_string_buffer(4096)
        options, values = (c_int * 2)(5, 6), (c_void_p * 2)(ctypes.addressof(log), 4096)
        def load(image, expect):
            cu("cuModuleLoadDataEx", byref(c_void_p()), image, 2, options, values, expect=expect)
        load(PTX.replace("add.rn.f32", "add.rn.wrong.f32").encode(), 218)
        assert b"add.rn.wrong.f32" in log.value
        load(PTX.replace("sm_75", "sm_100").encode(), 209)
        load(b"\\x7fELF" + bytes(60), 209)
        """
    )
    assert len(driver.faults()) == 3


def test_contexts(script):
    script(
        """
        cu("cuDeviceGetCount", byref(c_int()), expect=3)
        cu("cuInit", 0)
        cu("cuMemAlloc_v2", byref(c_uint64()), c_size_t(4), expect=201)
        c = new("cuDevicePrimaryCtxRetain", 0)
        cu("cuCtxPushCurrent_v2", c)
        memory(4)
        cu("cuCtxPopCurrent_v2", byref(c_void_p()))
        cu("cuMemAlloc_v2", byref(c_uint64()), c_size_t(4), expect=201)
        cu("cuDevicePrimaryCtxRelease_v2", 0)
        cu("cuCtxSetCurrent", c, expect=201)
        cu("cuDevicePrimaryCtxRetain", byref(c), 1, expect=101)
        """
    )


def test_two_devices_have_their_own_handles_and_memory(script):
    driver = script(
        """
        f, x, y = ready()
        s = new("cuStreamCreate", 0)
        other = new("cuDevicePrimaryCtxRetain", 1)
        cu("cuCtxSetCurrent", other)
        launch(f, [x, y, c_int(32)], expect=201)
        module, f = kernel()
        launch(f, [x, y, c_int(32)], stream=s, expect=201)
        launch(f, [x, y, c_int(32)])
        cu("cuCtxSynchronize", expect=700)
        """,
        DEVICES=2,
    )
    assert any("device 0 while device 1" in f for f in driver.faults())


def test_streams_run_when_waited_for_and_events_order_them(script):
    program = """
    f, x, y = ready()
    z, n = memory(128), c_int(32)
    a, b = new("cuStreamCreate", 1), new("cuStreamCreate", 1)
    e = new("cuEventCreate", 0)
    launch(f, [x, y, n], stream=a)
    cu("cuEventRecord", e, a)
    cu("cuEventQuery", e, expect=600)
    {}
    launch(f, [y, z, n], stream=b)
    cu("cuStreamSynchronize", b, expect={})
    """
    driver = script(program.format('cu("cuStreamWaitEvent", b, e, 0)', 0))
    assert not driver.faults()
    driver = script(program.format("", 719))
    assert "uninitialised" in driver.faults()[0]


def test_the_legacy_stream_waits_for_blocking_streams_only(script):
    for flags, result in ((0, 0), (1, 1)):
        driver = script(
            f"""
            f, x, y = ready()
            s = new("cuStreamCreate", {flags})
            launch(f, [x, y, c_int(32)], stream=s)
            download(y, 32, expect={result})
            """
        )
    assert "never written" in driver.faults()[0]


def test_events_measure(script):
    script(
        """
        f, x, y = ready()
        a, b, ms = new("cuEventCreate", 0), new("cuEventCreate", 0), ctypes.c_float()
        cu("cuEventRecord", a, None)
        launch(f, [x, y, c_int(32)])
        cu("cuEventRecord", b, None)
        cu("cuEventElapsedTime", byref(ms), a, b, expect=600)
        cu("cuEventSynchronize", b)
        cu("cuEventElapsedTime", byref(ms), a, b)
        assert ms.value > 0
        """
    )


def test_graph_capture(script):
    driver = script(
        """
        f, x, y = ready()
        s = new("cuStreamCreate", 1)
        args = [x, y, c_int(32)]
        cu("cuStreamBeginCapture_v2", s, 0)
        launch(f, args, stream=s)
        status = c_int()
        cu("cuStreamIsCapturing", s, byref(status))
        assert status.value == 1
        graph = c_void_p()
        cu("cuStreamEndCapture", s, byref(graph))
        g = new("cuGraphInstantiateWithFlags", graph, c_uint64(0))
        cu("cuStreamSynchronize", s)
        cu("cuMemcpyDtoH_v2", floats(32), y, c_size_t(128), expect=1)   # nothing has run
        for _ in range(3):
            cu("cuGraphLaunch", g, s)
        cu("cuStreamSynchronize", s)
        assert download(y, 32) == [3.0] * 32

        for forbidden in (
            lambda: cu("cuMemAlloc_v2", byref(c_uint64()), c_size_t(4), expect=900),
            lambda: cu("cuStreamSynchronize", s, expect=900),
            lambda: launch(f, args, expect=906),
        ):
            cu("cuStreamBeginCapture_v2", s, 0)
            forbidden()
            launch(f, args, stream=s, expect=901)
            cu("cuStreamEndCapture", s, byref(graph), expect=901)
        """
    )
    assert len(driver.launches()) == 1
    assert [c["nodes"] for c in driver.calls("cuGraphLaunch")] == [1, 1, 1]


def test_injected_failures(script):
    driver = script(
        """
        f, x, y = ready()
        args = [x, y, c_int(32)]
        launch(f, args)
        launch(f, args, expect=719)
        launch(f, args)
        cu("cuCtxSynchronize", expect=214)
        """,
        FAIL="cuLaunchKernel:2:719,cuCtxSynchronize:1:214",
    )
    assert [c["result"] for c in driver.calls("cuLaunchKernel")] == [0, 719, 0]


def test_memory_runs_out(script):
    script(
        """
        context()
        p = memory(900)
        cu("cuMemAlloc_v2", byref(c_uint64()), c_size_t(101), expect=2)
        cu("cuMemFree_v2", p)
        memory(1000)
        """,
        MEMORY=1000,
    )


def test_pinned_memory(script):
    driver = script(
        """
        f, x, y = ready()
        kept, freed = new("cuMemHostAlloc", c_size_t(128), 0), new("cuMemAllocHost_v2", c_size_t(8))
        launch(f, [x, y, c_int(32)])
        cu("cuMemcpyDtoH_v2", kept, y, c_size_t(128))
        assert ctypes.cast(kept, ctypes.POINTER(ctypes.c_float))[31] == 3.0
        cu("cuMemFreeHost", freed)
        cu("cuMemFreeHost", freed, expect=1)
        """
    )
    assert driver.leaks().count("pinned memory") == 1


def test_names_and_attributes(script):
    script(
        """
        context()
        name = ctypes.c_char_p()
        cu("cuGetErrorName", 700, byref(name))
        assert name.value == b"CUDA_ERROR_ILLEGAL_ADDRESS"
        cu("cuGetErrorName", 12345, byref(name), expect=1)
        def attribute(which):
            value = c_int()
            cu("cuDeviceGetAttribute", byref(value), which, 0)
            return value.value
        assert (attribute(75), attribute(76), attribute(97)) == (8, 6, 99 << 10)
        address = c_void_p()
        cu("cuGetProcAddress_v2", b"cuMemAlloc", byref(address), 13000, c_uint64(0), None)
        assert address.value == ctypes.cast(cuda.cuMemAlloc_v2, c_void_p).value
        nothing = (b"cuNothing", byref(address), 13000, c_uint64(0), None)
        cu("cuGetProcAddress_v2", *nothing, expect=500)
        assert not hasattr(cuda, "cuMemAlloc"), "the first version takes 32-bit sizes"
        module, f = kernel()
        registers = c_int()
        cu("cuFuncGetAttribute", byref(registers), 4, f)
        assert 0 < registers.value < 32
        """,
        CAPABILITY=86,
    )


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_warps_run_in_either_order(script, order):
    body = "f, x, y = ready(256); launch(f, [x, y, c_int(256)], block=256); print(download(y, 256))"
    script(body, ORDER=order).assert_clean(allow_leaks=("context", "memory", "module"))


def test_preloading_serves_a_later_dlopen(tmp_path):
    code = f"""
import ctypes, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_driver import FakeDriver
driver = FakeDriver({str(tmp_path)!r})
driver.preload()
assert ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
assert [c["call"] for c in driver.calls()] == ["cuInit"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
