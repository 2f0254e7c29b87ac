"""Settings that all tests share."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Importing torch inside the first example takes longer than hypothesis's own deadline.
settings.register_profile(
    "esper", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("thorough", settings.get_profile("esper"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "esper"))


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Torch's thread count decides bits and, on a busy machine, minutes."""
    import torch

    torch.set_num_threads(1)
