"""The checkpoint benchmark runs, and shows the figures it promises."""

from bench import checkpoint
from bench.__main__ import figures
from bench.measure import Size


def test_the_checkpoint_benchmark_gives_its_figures() -> None:
    found = dict(figures(checkpoint.run(Size.SMALL)))
    for step in ("copy", "clone", "write", "load", "torch_save", "torch_save_synced", "torch_load"):
        assert found[f"{step}.0.1M.n"] == checkpoint.ROUNDS[Size.SMALL]["0.1M"]
        assert 0 < float(str(found[f"{step}.0.1M.p50_ms"])) <= float(str(found[f"{step}.0.1M.p99_ms"]))
    assert found["first_copy.0.1M.n"] == checkpoint.BOUNDARIES + 1
    for ratio in (
        "copy.0.1M.ratio_to_clone",
        "write.0.1M.ratio_to_torch_save",
        "load.0.1M.ratio_to_torch_load",
    ):
        assert float(str(found[ratio])) > 0
    assert 90_000 < int(str(found["size.0.1M.parameters"])) < 120_000
    assert int(str(found["size.0.1M.bytes"])) > 3 * 4 * 100_000, "weights and both moments"
    promised = {budget.figure.replace("10M", "0.1M") for budget in checkpoint.BUDGETS}
    assert promised <= set(found)


def test_the_same_network_is_measured_every_time() -> None:
    assert checkpoint.run(Size.SMALL)["digest"] == checkpoint.run(Size.SMALL)["digest"]
