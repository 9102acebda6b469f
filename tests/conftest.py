"""A strict run: one torch thread, fixed seed, the same examples everywhere.

New examples, to look for what the fixed ones miss: ``pytest --hypothesis-profile=explore``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("explore", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", parent=settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")

torch.set_num_threads(1)
os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are imported: Triton then runs them on a CPU


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
