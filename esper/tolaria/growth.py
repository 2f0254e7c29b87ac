"""What has grown so far, as the trainer knows it: each seed's record, figures and means to learn."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from contracts.growth import SeedFigures, SeedRecord, SeedView, SiteInfo, SiteView
from contracts.lifecycle import Stage
from esper.kasmina.stream import RandomStream
from esper.tolaria.undo import Undo


@dataclass
class Seed:
    """One seed, from its slot's first record to its last.

    `in_place` says that its module is in the model. A seed in place is live (trained with the host),
    or isolated and `learns` on the shadow path, or isolated and at rest.
    """

    record: SeedRecord
    figures: SeedFigures
    stream: RandomStream
    in_place: bool = False
    live: bool = False
    learns: bool = False
    paced: bool = False
    """Its learning rate's warm-up has begun."""
    gauged_in: Stage | None = None
    """Stage in which it was last gauged."""
    starved_in: Stage | None = None
    """Stage in which it was last looked whether the seed starves the host."""
    gain: float | None = None
    gain_epoch: int = -1
    undo: Undo | None = None
    """The network before the graft, while it can still be rolled back to."""
    undo_shape: int = -1
    """The count of grafts and removals at which `undo` fits."""

    @property
    def open(self) -> bool:
        """In place, its fate undecided."""
        return self.in_place and self.record.stage is not Stage.FOSSILIZED

    def measured(self, **figures: float | bool | int | None) -> None:
        """Put newly measured figures in the place of the old ones."""
        self.figures = msgspec.structs.replace(self.figures, **figures)

    def forget_gain(self) -> None:
        """What was compared in another stage says nothing about this one."""
        self.measured(loss_with=None, loss_without=None, accuracy_with=None, accuracy_without=None)

    def view(self) -> SeedView:
        """What a policy sees of it."""
        return SeedView(self.record, self.figures, self.gain, self.gain_epoch)

    def copy(self) -> "Seed":
        """The same seed now; nothing of it changes with the original."""
        stream = RandomStream(self.stream.seed, self.stream.name, self.stream.flowed)
        return replace(self, stream=stream)


class Growth:
    """All seeds of a run, by id, in the order in which their slots came to be."""

    def __init__(self, sites: Iterable[SiteInfo], max_per_site: int, run_seed: int) -> None:
        self.sites = {site.name: site for site in sites}
        self.seeds: dict[str, Seed] = {}
        self._max_per_site = max_per_site
        self._run_seed = run_seed

    def note(self, record: SeedRecord) -> Seed:
        """Take over a record; a site's new slot takes the place of its dormant predecessor."""
        seed = self.seeds.get(record.seed_id)
        if seed is None:
            for old in [s.record for s in self.seeds.values() if s.record.site == record.site]:
                if old.stage is Stage.DORMANT:
                    del self.seeds[old.seed_id]
            stream = RandomStream(self._run_seed, record.seed_id)
            seed = self.seeds[record.seed_id] = Seed(record, SeedFigures(record.seed_id), stream)
        seed.record = record
        return seed

    def open_seeds(self) -> list[Seed]:
        """The seeds in place whose fate is undecided."""
        return [seed for seed in self.seeds.values() if seed.open]

    def figures(self) -> dict[str, SeedFigures]:
        """The newest figures of every seed."""
        return {seed_id: seed.figures for seed_id, seed in self.seeds.items()}

    def views(self) -> tuple[SiteView, ...]:
        """Every site with its fossils and the seed in progress; a full site shows its last fossil there."""
        return tuple(self._view(site) for site in self.sites.values())

    def _view(self, site: SiteInfo) -> SiteView:
        fossils: list[SeedView] = []
        current: SeedView | None = None
        for seed in self.seeds.values():
            if seed.record.site != site.name:
                continue
            if seed.record.stage is Stage.FOSSILIZED:
                fossils.append(seed.view())
            else:
                current = seed.view()
        if current is None and fossils and len(fossils) >= self._max_per_site:
            current = fossils[-1]
        return SiteView(site, tuple(fossils), current)

    def copies(self, shape: int) -> dict[str, Seed]:
        """All seeds as they are now; a way back that does not fit a network of `shape` never will again."""
        copies = {seed_id: seed.copy() for seed_id, seed in self.seeds.items()}
        for seed in copies.values():
            if seed.undo_shape != shape:
                seed.undo = None
        return copies

    def restore(self, seeds: Mapping[str, Seed]) -> None:
        """Go back to what `copies()` gave."""
        self.seeds = {seed_id: seed.copy() for seed_id, seed in seeds.items()}
