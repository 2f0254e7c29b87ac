"""A made-up run that looks like a real one, of any length, the same every time."""

import math
import random
from typing import NamedTuple

from contracts.config import Config, RunConfig
from contracts.conflict import ConflictFacts, PairFacts
from contracts.growth import (
    Candidate,
    Contender,
    GateVerdict,
    Layout,
    ProbeReport,
    ProbeScore,
    SeedFigures,
    SeedRecord,
    SeedView,
    SiteInfo,
    SiteView,
)
from contracts.lifecycle import Gate, Stage
from contracts.report import AlertFacts, BoundaryFacts, EpochFacts, FinalFacts, PolicyUpdateFacts, Report
from contracts.view import BoundaryView, Event, ProbeProgress, RunFacts, RunView
from esper.report.build import Closing, boundary, build, comparison
from esper.report.record import Recorder

S = Stage
BUDGET_FLOPS = 30_000_000_000
SITES = tuple(
    SiteInfo(f"body.relu{depth + 1}", Layout.SEQUENCE, (4, length), 4, depth)
    for depth, length in enumerate((19, 10, 5))
)


class Life(NamedTuple):
    """What became of one seed; `share` is the progress at which it germinated."""

    seed_id: str
    site: int
    blueprint: str
    name: str
    params: int
    share: float
    stages: tuple[Stage, ...]
    gain: float


_SHADOWED = (S.TRAINING, S.BLENDING, S.SHADOWING, S.PROBATIONARY, S.FOSSILIZED)
_KEPT = (S.TRAINING, S.BLENDING, S.PROBATIONARY, S.FOSSILIZED)
_CULLED = (S.TRAINING, S.BLENDING, S.CULLED, S.EMBARGOED, S.RESETTING, S.DORMANT)
LIVES = (
    Life("a1f0", 0, "BP009", "gated_linear", 298, 0.10, _SHADOWED, 0.3121),
    Life("b77c", 2, "BP031", "attention", 188, 0.16, _CULLED, -0.0041),
    Life("c3d9", 0, "BP009", "gated_linear", 298, 0.22, _KEPT, 0.1034),
    Life("d410", 1, "BP004", "convolution_3", 280, 0.34, _KEPT, 0.0412),
)


def a_report(epochs: int = 200, *, compared: bool = True) -> Report:
    """A finished run of `epochs` epochs."""
    recorder = Recorder()
    dice = random.Random(7)
    grown = course(epochs, dice, limit=0.90, final_loss=0.31, lives=True)
    for facts in grown:
        recorder.epoch(facts)
    for life in LIVES:
        _live(recorder, epochs, life)
    for share in (0.10, 0.22, 0.34):
        recorder.probe(a_probe(int(share * epochs), dice))
    _decisions(recorder, epochs)
    final = FinalFacts(0.8945, 0.893, 0.8978, 0.3312, 1214, BUDGET_FLOPS - 12_000_000)
    host = FinalFacts(0.761, 0.744, 0.7551, 0.7014, 338, BUDGET_FLOPS - 4_000_000)
    ungrown = course(int(1.6 * epochs), dice, limit=0.76, final_loss=0.69, lives=False)
    closing = Closing(
        config=Config(run=RunConfig(gflop=30.0, compare=True, seed=20)),
        versions={"esper": "0.1.0", "python": "3.11.9", "torch": "2.13.0+cpu", "numpy": "2.4.6"},
        host_params=338,
        final=final,
        flops={
            "training": 24_400_000_000,
            "probes": 4_300_000_000,
            "shadow": 900_000_000,
            "counterfactual": 380_000_000,
            "policy": 8_000_000,
        },
        bus={"published": 4210, "acked": 4210, "dead_lettered": 0, "depth_max": 31, "delivery_p95_ms": 0.84},
        wall_s=143.2,
        compare=comparison(final, host, ungrown) if compared else None,
        run_id="mnist1d-20",
    )
    return build(recorder.recorded, closing)


def course(
    epochs: int, dice: random.Random, *, limit: float, final_loss: float, lives: bool
) -> list[EpochFacts]:
    """Epochs that learn towards `limit`; with `lives`, those of a network that grows."""
    found = []
    for epoch in range(epochs):
        share = (epoch + 1) / epochs
        learned = 1 - math.exp(-5 * share)
        held = 0.12 * max(0.0, 1 - share / 0.4) * lives
        total = 2.1 + dice.expovariate(1.2) + (22.0 if epoch % 97 == 96 else 0.0)
        loss = 2.3 - (2.25 - final_loss) * learned + dice.gauss(0, 0.02)
        kept = (life.params for life in LIVES if life.share < share and life.stages[-1] is S.FOSSILIZED)
        found.append(
            EpochFacts(
                epoch=epoch,
                train_loss=loss - 0.05 * learned + dice.gauss(0, 0.03),
                val_loss=None if epoch == epochs // 2 else loss,
                val_accuracy=0.1 + (limit - 0.1) * learned - held * learned + dice.gauss(0, 0.008),
                learning_rate=0.01 if share < 0.7 else 0.01 * (1 - 0.98 * (share - 0.7) / 0.3),
                boundary_ms=_boundary(total) if lives else None,
                params=338 + (sum(kept) if lives else 0),
                train_flops=int(BUDGET_FLOPS * share ** (1.15 if lives else 1.0)),
                conflict=_conflict(epoch) if lives and 0.22 < share <= 0.3 else None,
            )
        )
    return found


def _boundary(total: float) -> BoundaryFacts:
    return BoundaryFacts(0.2 * total, 0.5 * total, 0.2 * total, total, keep=0.1 * total)


def _conflict(epoch: int) -> ConflictFacts:
    """Two live seeds that come to disagree."""
    cosine = 0.75 - 0.125 * (epoch % 8)
    pairs = (
        PairFacts("joint", "a1f0", 0.5, 0.25, 0),
        PairFacts("joint", "c3d9", 0.75, 0.5, 0),
        PairFacts("a1f0", "c3d9", cosine, cosine - 0.25, 4 if cosine < 0.25 else 0),
    )
    return ConflictFacts(4, pairs[-1].conflicts, -0.1, 0, 5_632_000, pairs)


def _live(recorder: Recorder, epochs: int, life: Life) -> None:
    site, epoch = SITES[life.site].name, int(life.share * epochs)
    for stage in (S.GERMINATED, *life.stages):
        record = SeedRecord(life.seed_id, site, stage, life.blueprint, life.params, {"width": 8.0})
        reason = "gain −0.0041 over 8 epochs is below 0.2 % of the loss" if stage is S.CULLED else ""
        recorder.seed(record, epoch, blueprint_name=life.name, reason=reason)
        epoch += max(1, epochs // 40)
    recorder.gain(life.seed_id, life.gain)


def _decisions(recorder: Recorder, epochs: int) -> None:
    for operation, times in (("GERMINATE", 4), ("START_TRAINING", 4), ("FOSSILIZE", 3), ("CULL", 1)):
        for _ in range(times):
            recorder.applied(operation)
    rests = "site body.relu3 is embargoed until epoch 48; it takes a seed then"
    for _ in range(3):
        recorder.refused(epochs // 4, "GERMINATE", "body.relu3", rests)
    risky = "BP042 is HIGH_RISK; only SAFE blueprints germinate outside a drill"
    recorder.refused(epochs // 2, "GERMINATE", "body.relu1", risky)
    recorder.late()
    recorder.verdict(9, "a1f0", GateVerdict(Gate.G0_SANITY, True, "jump 0"))
    recorder.verdict(40, "b77c", GateVerdict(Gate.G2_STABILITY, False, "rms ratio 12.4 is above 10"))
    slow = "boundary above 18 ms for 3 epochs"
    recorder.alert(AlertFacts("training_latency_high", epochs // 2, slow, "warning", epochs // 2 + 4))
    recorder.policy_update(PolicyUpdateFacts(epochs // 3, "7", False, "entropy 0.02 is below 0.05"))


def a_probe(epoch: int, dice: random.Random) -> ProbeReport:
    """A probe of twelve candidates."""
    scores = []
    for index in range(12):
        site, kind = SITES[index % 3], ("BP009", "BP004", "BP031", "BP017")[index // 3]
        candidate = Candidate(site.name, kind, {"width": 8.0}, 180 + 10 * index)
        loss = 0.9 + 0.03 * index + dice.random() * 0.02
        scores.append(ProbeScore(Contender((candidate,)), loss, 1.05, 120 if index < 3 else 40, 1_000_000))
    return ProbeReport(f"probe-{epoch}", epoch, tuple(scores), 1_430_000_000, 3.4)


def a_view(epochs: int = 120) -> RunView:
    """A run that is under way, with something to show in every place."""
    facts = course(epochs, random.Random(3), limit=0.88, final_loss=0.4, lives=True)
    seed = SeedRecord(
        "d410", SITES[1].name, S.BLENDING, "BP004", 280, born_epoch=104, stage_epoch=112, alpha=0.4
    )
    fossil = SeedRecord("a1f0", SITES[0].name, S.FOSSILIZED, "BP009", 298, born_epoch=20, stage_epoch=44)
    figures = boundary(facts, 18.0).total
    assert figures is not None
    return RunView(
        facts=RunFacts("mnist1d", "heuristic", 20, "runs", budget_flops=BUDGET_FLOPS),
        phase="probing",
        epoch=epochs,
        elapsed_s=61.0,
        host_params=338,
        params=934,
        max_params=1300,
        spent_flops=13_400_000_000,
        epochs=tuple(facts),
        sites=(
            SiteView(SITES[0], (SeedView(fossil, SeedFigures("a1f0"), 0.3121, 40),)),
            SiteView(SITES[1], (), SeedView(seed, SeedFigures("d410"), 0.0412, 116)),
            SiteView(SITES[2]),
        ),
        boundary=BoundaryView(figures.p50_ms, figures.p99_ms, epochs),
        probe=ProbeProgress(210, 600, 6, "BP009 at body.relu1", 0.071),
        bus_depth=3,
        alerts=("training_latency_high: boundary above 18 ms for 3 epochs",),
        events=(
            Event(20, "germinated", "a1f0: BP009 at body.relu1, 298 parameters"),
            Event(44, "fossilized", "a1f0: gain +0.3121"),
            Event(96, "culled", "b77c: gain −0.0041 is below the least gain"),
            Event(104, "germinated", "d410: BP004 at body.relu2, 280 parameters"),
        ),
    )
