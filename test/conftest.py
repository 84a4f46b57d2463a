"""Compiled code that tests leave behind goes where pytest cleans up, not into the user's cache."""

from __future__ import annotations

import os

import pfcn._C
import pytest

# Tests see the same choices on every machine.
MACHINE = (
    "library-rate=0.5;operation=0.17;call=2000;matrix=50;"
    "second-cache=0.17;last-cache=0.68;memory=1.36"
)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory):
    os.environ["PFCN_CACHE_DIR"] = str(tmp_path_factory.mktemp("pfcn-cache"))


@pytest.fixture(autouse=True)
def _machine_of_the_tests(_cache_of_the_tests):
    pfcn._C.calibrate(MACHINE)  # caches are pruned
