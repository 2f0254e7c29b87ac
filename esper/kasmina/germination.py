"""Plans GERMINATE: may this blueprint grow at this site now, and if so, the module itself."""

import hashlib
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec
import torch

from contracts.blueprint import BlueprintTier
from contracts.config import GrowthConfig
from contracts.growth import Path, SeedRecord, SiteInfo
from contracts.lifecycle import ACTIVE, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation
from esper.karn.blueprint import Blueprint, BlueprintError, whole
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.kasmina.draft import Records, Refused, legal, number
from esper.kasmina.plan import Insert

PATH_SETTINGS = frozenset(Path.__struct_fields__)
"""Names in a GERMINATE's parameters that set the seed's path; all others are the blueprint's."""


@dataclass(frozen=True)
class Germination:
    """Where, what and how much may be germinated."""

    sites: Mapping[str, SiteInfo]
    config: GrowthConfig
    catalogue: Catalogue
    seed: int

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
        record = SeedRecord(
            seed_id=free.seed_id,
            site=site.name,
            stage=Stage.GERMINATED,
            blueprint_id=blueprint.blueprint_id,
            params=params,
            parameters=own,
            path=_path(self.config.path, asked.parameters),
            born_epoch=epoch,
            stage_epoch=epoch,
        )
        return Insert(record, blueprint.build(site, own, self._stream(record.seed_id)))

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
        legal(newest, Stage.GERMINATED)
        if command.target_seed_id not in ("", newest.seed_id):
            raise Refused(f"the next seed at {site.name} is {newest.seed_id}, not {command.target_seed_id}")
        return newest

    def _blueprint(self, asked: CommandSeedOperation, command: AdaptationCommand) -> Blueprint:
        try:
            blueprint = self.catalogue.get(asked.blueprint_id)
        except UnknownBlueprint as error:
            raise Refused(str(error)) from error
        about = blueprint.descriptor
        label = f"{about.blueprint_id} ({about.name}) is {about.tier.name}"
        if about.quarantine_only or about.tier not in (BlueprintTier.SAFE, BlueprintTier.EXPERIMENTAL):
            raise Refused(f"{label}{' and quarantine-only' * about.quarantine_only}: it is never germinated")
        needs_approval = about.approval_required or about.tier is BlueprintTier.EXPERIMENTAL
        if needs_approval and command.annotations.get("approved") != "true":
            raise Refused(f"{label} and needs approval: annotations['approved'] == 'true'")
        return blueprint

    def _check_limits(self, records: Records, params: int, params_now: int) -> None:
        active = sum(one.stage in ACTIVE for one in records.values())
        if active >= self.config.max_active:
            raise Refused(
                f"{active} seeds are active and max_active is {self.config.max_active}: "
                "fossilize or cull one first"
            )
        limit = self.config.max_params
        if limit is not None and params_now + params > limit:
            raise Refused(
                f"{params} more parameters would make {params_now + params}, and max_params is {limit}: "
                f"at most {max(limit - params_now, 0)} fit"
            )

    def _stream(self, seed_id: str) -> torch.Generator:
        """The seed's random stream: the same for the same run seed and seed id, on any machine."""
        digest = hashlib.sha256(f"{self.seed}/{seed_id}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _path(default: Path, parameters: Mapping[str, float]) -> Path:
    """The configured path with the command's own durations put in."""
    durations = {name: value for name, value in parameters.items() if name in PATH_SETTINGS}
    for name, value in durations.items():
        epochs = whole(value)
        if epochs is None or epochs < 0:
            raise Refused(f"{name} has to be a whole number of epochs from 0, not {reprlib.repr(value)}")
    return msgspec.structs.replace(default, **{name: int(value) for name, value in durations.items()})
