"""The lit suite: FileCheck tests of every pass and tool."""

import ctypes
import os
import sys

import lit.formats

config.name = "pfcn"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["python", "Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.pfcn_binary_dir, "test")
config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.pfcn_binary_dir, "bin"), config.llvm_tools_dir, os.environ["PATH"]]
)
config.environment["PYTHONPATH"] = os.path.join(config.pfcn_source_dir, "python")
config.substitutions.append(("%python", config.python_executable))
config.substitutions.append(("%pfcn_opt", os.path.join(config.pfcn_binary_dir, "bin", "pfcn-opt")))
if config.sanitize:
    # The options and suppressions, each with its reason, are in files beside this one.
    sys.path.insert(0, config.test_source_root)
    import sanitizers

    config.environment.update(sanitizers.environment())
if config.enable_torch:
    config.available_features.add("torch")


def has_cuda_device():
    try:
        cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return False
    return (
        cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    )


if has_cuda_device():
    config.available_features.add("cuda")
