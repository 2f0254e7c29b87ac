"""Runs in this process compile nothing ahead, unless a test is about that."""

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_compiled_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler's process takes seconds of the processor to start; `kernels` marks tests that want it."""
    if "kernels" not in request.keywords:
        monkeypatch.setattr("esper.session._pipeline", lambda job, parts: None)
