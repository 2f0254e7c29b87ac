"""Plans GERMINATE: may this blueprint grow at this site now, and if so, the module itself."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec

from contracts.blueprint import BlueprintTier
from contracts.config import GrowthConfig
from contracts.growth import Candidate, Path, SeedRecord, SiteInfo
from contracts.kernels import Design, KernelSpec, design_of
from contracts.lifecycle import ACTIVE, RESTING, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation
from esper.karn.blueprint import Blueprint, BlueprintError, whole
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.karn.permission import DrillPermission
from esper.kasmina.draft import Records, Refused, legal, next_slot, number
from esper.kasmina.draw import draw_of, stream_of
from esper.kasmina.limits import ADAMS, Burden, Limits
from esper.kasmina.plan import Insert
from esper.kasmina.stock import Stock

DRILL_TRAINING_EPOCHS = 2
"""Epochs that a drill's seed learns in isolation, at least."""
PATH_SETTINGS = frozenset(Path.__struct_fields__)
"""Names in a GERMINATE's parameters that set the seed's path; all others are the blueprint's."""


@dataclass(frozen=True)
class Germination:
    """Where, what and how much may be germinated."""

    sites: Mapping[str, SiteInfo]
    config: GrowthConfig
    catalogue: Catalogue
    seed: int
    stock: Stock | None = None
    """Kernels that are ready; without one everything is built on the spot."""
    permission: DrillPermission | None = None
    """What may be germinated in a drill; None in every other run."""
    burden: Burden = ADAMS
    """What a seed's parameters take in memory."""

    def plan(
        self,
        command: AdaptationCommand,
        asked: CommandSeedOperation,
        records: Records,
        epoch: int,
        params_now: int,
    ) -> Insert:
        """The seed as it would be, with its module drawn from a random stream of its own.

        Raises:
            Refused: site, slot, blueprint, settings, trust or a limit does not allow it.
        """
        site = self._site(command)
        free = self._slot(site, command, records)
        blueprint = self._blueprint(asked, command)
        own = {name: value for name, value in asked.parameters.items() if name not in PATH_SETTINGS}
        try:
            params = blueprint.params(site, own)
        except BlueprintError as error:
            raise Refused(str(error)) from error
        self._check_limits(records, params, params_now)
        path = _path(self.config.path, asked.parameters)
        drill = self._is_drill(command, design_of(site, blueprint.blueprint_id, own), path)
        record = SeedRecord(
            seed_id=free.seed_id,
            site=site.name,
            stage=Stage.GERMINATED,
            blueprint_id=blueprint.blueprint_id,
            params=params,
            parameters=own,
            path=path,
            born_epoch=epoch,
            stage_epoch=epoch,
            drill=drill,
        )
        return self._insert(record, site, blueprint)

    def spec(self, candidate: Candidate, records: Records) -> KernelSpec | None:
        """The kernel that germinating `candidate` next would take; None if its site is full or unknown."""
        site = self.sites.get(candidate.site)
        if site is None:
            return None
        newest = max((one for one in records.values() if one.site == site.name), key=number)
        if newest.stage is Stage.FOSSILIZED:
            return None
        free = newest if newest.stage is Stage.DORMANT else next_slot(newest)
        return self._spec(site, candidate.blueprint_id, candidate.parameters, free.seed_id)

    def _insert(self, record: SeedRecord, site: SiteInfo, blueprint: Blueprint) -> Insert:
        """The seed with its module: a ready kernel, or one of the same bits that is built on the spot."""
        spec = self._spec(site, record.blueprint_id, record.parameters, record.seed_id)
        kernel = self.stock.take(spec) if self.stock is not None else None
        if kernel is not None:
            return Insert(msgspec.structs.replace(record, kernel=kernel.ref.ref), kernel.module)
        stream = stream_of(spec.draw)
        return Insert(record, blueprint.build(site, record.parameters, stream, self.permission))

    def _spec(
        self, site: SiteInfo, blueprint_id: str, parameters: Mapping[str, float], seed_id: str
    ) -> KernelSpec:
        return KernelSpec(design_of(site, blueprint_id, parameters), draw_of(self.seed, seed_id))

    def _site(self, command: AdaptationCommand) -> SiteInfo:
        name = command.annotations.get("site")
        if name is None:
            raise Refused("GERMINATE needs annotations['site']: the name of the site to grow at")
        site = self.sites.get(name)
        if site is None:
            nearest = ", ".join(get_close_matches(name, self.sites, cutoff=0.0))
            raise Refused(
                f"there is no site {name!r}; the nearest are {nearest or 'none: no site is marked'}"
            )
        return site

    def _slot(self, site: SiteInfo, command: AdaptationCommand, records: Records) -> SeedRecord:
        """The site's dormant slot."""
        newest = max((one for one in records.values() if one.site == site.name), key=number)
        if newest.stage is Stage.FOSSILIZED:
            raise Refused(
                f"site {site.name} is full: it holds as many seeds as max_per_site "
                f"({self.config.max_per_site}) allows"
            )
        if newest.stage in RESTING:
            raise Refused(
                f"site {site.name} rests after {newest.seed_id} was culled, at least until epoch "
                f"{newest.rests_until} (growth.embargo_epochs)"
            )
        legal(newest, Stage.GERMINATED)
        if command.target_seed_id not in ("", newest.seed_id):
            raise Refused(f"the next seed at {site.name} is {newest.seed_id}, not {command.target_seed_id}")
        return newest

    def _blueprint(self, asked: CommandSeedOperation, command: AdaptationCommand) -> Blueprint:
        try:
            blueprint = self.catalogue.get(asked.blueprint_id)
        except UnknownBlueprint as error:
            raise Refused(str(error)) from error
        self._check_left_out(blueprint)
        about = blueprint.descriptor
        label = f"{about.blueprint_id} ({about.name}) is {about.tier.name}"
        if about.quarantine_only or about.tier not in (BlueprintTier.SAFE, BlueprintTier.EXPERIMENTAL):
            if _says_drill(command) and self.permission is not None:
                return blueprint
            raise Refused(
                f"{label}{' and quarantine-only' * about.quarantine_only}: "
                "it is never germinated outside of a drill that this run has permission for"
            )
        needs_approval = about.approval_required or about.tier is BlueprintTier.EXPERIMENTAL
        if needs_approval and blueprint.blueprint_id not in self.config.approved:
            raise Refused(f"{label} and needs approval: name it in growth.approved")
        if needs_approval and command.annotations.get("approved") != "true":
            raise Refused(f"{label} and needs approval by the command too: annotations['approved'] == 'true'")
        return blueprint

    def _is_drill(self, command: AdaptationCommand, design: Design, path: Path) -> bool:
        """Whether it is germinated in a drill; of any tier, it then has to have passed its trial."""
        if not _says_drill(command):
            return False
        if self.permission is None:
            raise Refused("this run has no drill permission, and no command can give it one")
        if not self.permission.covers(design):
            raise Refused(
                f"{design.blueprint_id} has not passed its trial in quarantine: not with these settings here"
            )
        if path.training_epochs < DRILL_TRAINING_EPOCHS or 0 in (
            path.blending_epochs,
            path.shadowing_epochs,
            path.probation_epochs,
        ):
            raise Refused(
                "a drill takes the isolated path: "
                f"training_epochs from {DRILL_TRAINING_EPOCHS}, the other stages from 1"
            )
        return True

    def _check_left_out(self, blueprint: Blueprint) -> None:
        why = self.stock.left_out.get(blueprint.blueprint_id) if self.stock is not None else None
        if why is not None:
            raise Refused(f"{blueprint.blueprint_id} ({blueprint.descriptor.name}) is left out: {why}")

    def _check_limits(self, records: Records, params: int, params_now: int) -> None:
        active = [one.params for one in records.values() if one.stage in ACTIVE]
        refusal = Limits(self.config, self.burden).refusal(params, active, params_now)
        if refusal:
            raise Refused(refusal)


def _says_drill(command: AdaptationCommand) -> bool:
    return command.annotations.get("drill") == "true"


def _path(default: Path, parameters: Mapping[str, float]) -> Path:
    """The configured path with the command's own durations put in."""
    durations = {name: value for name, value in parameters.items() if name in PATH_SETTINGS}
    for name, value in durations.items():
        epochs = whole(value)
        if epochs is None or epochs < 0:
            raise Refused(f"{name} has to be a whole number of epochs from 0, not {reprlib.repr(value)}")
    return msgspec.structs.replace(default, **{name: int(value) for name, value in durations.items()})
