"""What a build with sanitizers is run with: the presets asan and tsan of CMakePresets.json."""

from pathlib import Path

SUPPRESSIONS = Path(__file__).resolve().parent / "sanitizers"

STATUS = {"exitcode": 77}  # another than that of a diagnostic
ASAN = {
    **STATUS,
    # Vectors and arenas are shared with LLVM's libraries, which are not instrumented: what those
    # put into them, or take out, is not marked, and would be reported where pfcn reads it.
    "detect_container_overflow": 0,
    "allow_user_poisoning": 0,
    # A library may be unloaded at exit while another still names its globals (torch, MLIR).
    "detect_odr_violation": 0,
}
UBSAN = {**STATUS, "print_stacktrace": 1}
LSAN = {"suppressions": SUPPRESSIONS / "leaks.txt", "print_suppressions": 0}
TSAN = {
    "suppressions": SUPPRESSIONS / "threads.txt",
    # Locks and counters inside of libraries that are not instrumented are not seen.
    "ignore_noninstrumented_modules": 1,
    "halt_on_error": 1,
}


def environment() -> dict[str, str]:
    """Variables for programs of such a build."""
    tables = {"ASAN": ASAN, "UBSAN": UBSAN, "LSAN": LSAN, "TSAN": TSAN}
    return {
        f"{name}_OPTIONS": ":".join(f"{key}={value}" for key, value in table.items())
        for name, table in tables.items()
    }


if __name__ == "__main__":
    for name, value in environment().items():
        print(f"export {name}={value}")
