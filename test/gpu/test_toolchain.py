"""The CUDA tools on the test kernels for every chip; occupancy against cuda_occupancy.h."""

from __future__ import annotations

import itertools
import subprocess

import cases
import occupancy
import pytest
import toolchain
from ptx import Program

OLDEST = "sm_75"


@pytest.fixture(scope="module")
def oldest_text():
    """kernels.c for the oldest chip (bf16 arithmetic spelled out), which every newer one takes."""
    return toolchain.compile_c((cases.KERNELS / "kernels.c").read_text(), OLDEST)


@pytest.mark.parametrize("chip", toolchain.CHIPS)
def test_every_chip_takes_the_kernels(chip, oldest_text):
    done = toolchain.assemble(oldest_text, chip)
    assert not done.errors
    assert set(done.kernels) == {k for k in cases.ALL if not k.startswith("mma")}
    for kernel in done.kernels.values():
        assert 0 < kernel.registers <= 64
        assert kernel.spill_loads == kernel.spill_stores == 0
        # sin's slow path keeps a table in local memory
        assert kernel.stack == 0 or kernel.name == "activations"
    assert done.kernels["matmul"].static_shared == 2048
    usage = toolchain.resource_usage(done.cubin)
    assert {k: u["REG"] for k, u in usage.items()} == {
        k: v.registers for k, v in done.kernels.items()
    }


def test_the_oldest_chips_text_computes_the_same(oldest_text):
    program = Program(oldest_text)
    for name, make in cases.ALL.items():
        if not name.startswith("mma"):
            case = make()
            assert case.agrees(case.run(program, "together")[0]), name


def test_errors_are_ptxas_own():
    text = cases.mma_text().replace("bar.sync 0;", "bar.sink 0;")
    done = toolchain.assemble(text, "sm_90")
    assert "'.sink'" in done.errors and not done.kernels
    assert toolchain.assemble(toolchain.retarget(text, "sm_100"), "sm_90").errors


def test_spills_are_seen(oldest_text):
    few = toolchain.assemble(oldest_text, "sm_90", max_registers=16)
    assert any(k.spill_stores and k.spill_loads for k in few.kernels.values())


def test_a_function_left_extern_is_refused_by_the_interpreter_as_by_the_driver():
    source = "float __nv_none(float);\n__attribute__((nvptx_kernel)) void k(float *x) "
    text = toolchain.compile_c(source + "{ *x = __nv_none(*x); }")
    with pytest.raises(Exception, match=r"extern \.func.*__nv_none"):
        Program(text)


def test_sass_shows_wide_loads_and_tensor_cores():
    wide = toolchain.sass(toolchain.assemble(cases.text(), "sm_90").cubin)
    assert any(i.startswith("LDG.E.128") or " LDG.E.128" in i for i in wide["row_sum"])
    assert not any("LDG.E.128" in i for i in wide["block_sum"])
    tensor = toolchain.sass(toolchain.assemble(cases.mma_text(), "sm_90").cubin)
    assert any("HMMA.16816.F32" in i for i in tensor["mma_f16"])
    assert any("TF32" in i and "HMMA" in i for i in tensor["mma_tf32"])


def test_llvm_ir_through_llc():
    ir = """
    define ptx_kernel void @k(ptr addrspace(1) %p) {
      %v = load float, ptr addrspace(1) %p
      %s = call float @llvm.sqrt.f32(float %v)
      store float %s, ptr addrspace(1) %p
      ret void
    }
    declare float @llvm.sqrt.f32(float)"""
    assert "sqrt.rn.f32" in toolchain.compile_ir(ir)


# ---- occupancy ----------------------------------------------------------------------------------

REFERENCE = """
#include <cuda_occupancy.h>
#include <stdio.h>
int main() {
  int cc, perSmThreads, registers, threads;
  unsigned long shared, perSm, optin, reserved;
  while (scanf("%d %d %lu %lu %lu", &cc, &perSmThreads, &perSm, &optin, &reserved) == 5 &&
         scanf("%d %lu %d", &registers, &shared, &threads) == 3) {
    cudaOccDeviceProp device = {0};
    device.computeMajor = cc / 10, device.computeMinor = cc % 10;
    device.maxThreadsPerBlock = 1024, device.maxThreadsPerMultiprocessor = perSmThreads;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32, device.numSms = 100;
    device.sharedMemPerBlock = 49152, device.sharedMemPerMultiprocessor = perSm;
    device.sharedMemPerBlockOptin = optin;
    device.reservedSharedMemPerBlock = reserved;
    cudaOccFuncAttributes kernel = {0};
    kernel.maxThreadsPerBlock = 1024, kernel.numRegs = registers, kernel.numBlockBarriers = 1;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = shared;
    cudaOccDeviceState state = {0};
    state.carveoutConfig = SHAREDMEM_CARVEOUT_DEFAULT;
    cudaOccResult result;
    int error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads,
                                                        shared);
    printf("%d\\n", error ? -1 : result.activeBlocksPerMultiprocessor);
  }
}
"""


def test_occupancy_is_that_of_cuda_occupancy_h(tmp_path):
    binary = tmp_path / "occupancy"
    command = [toolchain.llvm_tool("clang"), "-xc", "-", "-O1", f"-I{toolchain.include()}", "-w"]
    subprocess.run([*command, "-o", binary], input=REFERENCE, text=True, check=True)
    inputs, mine = [], []
    sizes = (0, 1, 1000, 4096, 16384, 33000, 50000, 65536, 99 << 10, 150000, 227 << 10, 240000)
    launches = itertools.product(
        (16, 24, 32, 40, 64, 96, 128, 168, 255), sizes, (32, 96, 128, 256, 1024)
    )
    for (registers, shared, threads), chip in itertools.product(launches, occupancy.CHIPS.values()):
        device = (
            f"{chip.capability} {chip.threads} {chip.shared} {chip.shared_optin} {chip.reserved}"
        )
        inputs.append(f"{device} {registers} {shared} {threads}")
        limits = occupancy.blocks_per_multiprocessor(chip, registers, shared, threads)
        mine.append(min(limits.values()))
    done = subprocess.run(
        [binary], input="\n".join(inputs), text=True, capture_output=True, check=True
    )
    theirs = [int(line) for line in done.stdout.split()]
    assert len(theirs) == len(mine) > 4000
    wrong = [(i, t, m) for i, t, m in zip(inputs, theirs, mine, strict=True) if t != m]
    assert not wrong, wrong[:5]


def test_a_report_bounds_a_kernel():
    case = cases.networks()
    _, stats = case.run(Program(cases.text()), "together")
    kernel = toolchain.assemble(cases.text(), "sm_90").kernels["networks"]
    report = occupancy.report(kernel, stats, "sm_90", case.grid[0], case.block[0])
    bytes_once = sum(a.nbytes for a in case.arguments[:5]) + case.expected.nbytes
    assert report.memory_us == pytest.approx(bytes_once / 3350e3, rel=0.1)
    assert 1 <= report.memory_overhead <= 1.1
    assert report.memory_us <= report.sectors_us
    assert report.bound_us > 0 and 0 < report.occupancy <= 1
    assert "H100" in str(report)
