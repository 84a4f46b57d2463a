"""Compiled code that tests leave behind goes where pytest cleans up, not into the user's cache."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory):
    os.environ["PFCN_CACHE_DIR"] = str(tmp_path_factory.mktemp("pfcn-cache"))
