"""What test_load.py does in processes of their own: `load.py TASK [ARGUMENT…]`."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
import threading
import time

import torch

import pfcn
from pfcn.bench.seed import ParallelFCN


def compile_and_check(n: int, seed: int = 0) -> None:
    torch.manual_seed(seed)
    model, x = ParallelFCN(n).eval(), torch.randn(3, 20 * n)
    with torch.no_grad():
        torch.testing.assert_close(pfcn.compile(model, (x,))(x), model(x))


def cycles(count: str) -> None:
    """Compiles and drops; memory is that of the first ones. Every other one is another kernel."""
    first = 0
    total = int(count)
    for i in range(total):
        compile_and_check(2 + i % 2 * (1 + i // 2 % 5), i)
        if i == total // 5:
            gc.collect()
            first = resident()
    gc.collect()
    grown = resident() - first
    print(f"{total} cycles, {first / 1e6:.0f} MB, and {grown / 1e6:+.1f} MB since a fifth of them")
    limit = 24e6  # of caches of the allocator; a leaked plan is 50 KB, and there are thousands
    assert grown < limit, f"grew by {grown / 1e6:.1f} MB"


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def interrupt() -> None:
    """Ctrl-C in the middle of compilations, again and again; then everything works."""
    import signal

    done = threading.Event()

    def send():
        while not done.is_set():
            time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

    compile_and_check(4)
    torch.manual_seed(0)
    model = ParallelFCN(40).eval()
    x = torch.randn(3, 800)
    interrupted = 0
    sender = threading.Thread(target=send)
    fast = None
    end = time.monotonic() + 6
    sender.start()
    try:
        while interrupted < 15 and time.monotonic() < end:
            try:
                with torch.no_grad():
                    fast = pfcn.compile(model)
                    for batch in range(1, 30):
                        fast(torch.randn(batch, 800))
            except KeyboardInterrupt:
                interrupted += 1
    except KeyboardInterrupt:
        pass
    finally:
        while sender.is_alive():
            try:
                done.set()
                sender.join()
            except KeyboardInterrupt:
                pass
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(0.1)
    assert interrupted > 0
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
        torch.testing.assert_close(pfcn.compile(model, (x,))(x), model(x))
    print(f"interrupted {interrupted} times")


def full_disk() -> None:
    """No file may have more than 2,000 bytes: what is written to the cache is cut short."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # write() says EFBIG, as it says ENOSPC
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    for n in (3, 4, 3):
        compile_and_check(n)


def same_entry(start: str) -> None:
    """Waits for its time, so that several write one entry at once."""
    time.sleep(max(0.0, float(start) - time.time()))
    for n in range(2, 8):
        compile_and_check(n)


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](*sys.argv[2:])
