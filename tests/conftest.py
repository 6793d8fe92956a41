"""Puts this folder on the path, so that tests in every sub-folder can import ``cases`` and ``mutations``."""

import gc
import os
import sys
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support.export_speed import keep_operator_tables
from support.sampling import thin_slow_tables

# Hypothesis' own limits on the time of an example fail on a loaded machine; nothing here is judged by the clock.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
if hypothesis.settings.get_current_profile_name() == "default":
    hypothesis.settings.load_profile("project")

# Spinning OpenMP threads on cores that others need, such as a second worker: three minutes instead of one for the quick
# tests, 30 to 60 s instead of 5 s for the layers'.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# New objects before a collection of cycles, as in lstm_edge.cli.
COLLECT_AFTER = 10_000


def pytest_configure(config: pytest.Config) -> None:
    """Let one warning pass: PyTorch says once a process that it runs float32 projections by its own kernel."""
    config.addinivalue_line("filterwarnings", "ignore:LSTM with projections is not supported with oneDNN:UserWarning")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most rows of long tables of slow tests to ``make test-long``."""
    thin_slow_tables(items)


def pytest_collection_finish() -> None:
    """Let the collector of cycles leave alone what the imports made, and start less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def pytest_runtest_setup() -> None:
    """Share PyTorch's tables of operators among the exports of a process."""
    keep_operator_tables()
