"""Writes each decision on a message into the ledgers of its topic and of the topic's groups."""

from collections.abc import Mapping

from actors.oona.entry import Publication
from actors.oona.group import Group
from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.priority import LOWEST_URGENT


class Books:
    """The ledgers of one topic. What groups take they write down themselves."""

    __slots__ = ("_groups", "normal", "urgent")

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups
        self.urgent = TopicLedger()
        self.normal = TopicLedger()

    def accepted(self, publication: Publication) -> None:
        ledger = self._ledger(publication)
        ledger.published += 1
        ledger.accepted += 1

    def rerouted(self, publication: Publication) -> None:
        self.accepted(publication)
        self._ledger(publication).rerouted += 1

    def duplicate(self, publication: Publication) -> None:
        self._ledger(publication).duplicates += 1

    def unrouted(self, publication: Publication) -> None:
        ledger = self._ledger(publication)
        ledger.published += 1
        ledger.unrouted += 1

    def refused(self, publication: Publication) -> None:
        ledger = self._ledger(publication)
        ledger.published += 1
        ledger.refused += 1
        for group_ledger in self._group_ledgers(publication):
            group_ledger.published += 1
            group_ledger.refused += 1

    def shed(self, publication: Publication) -> None:
        ledger = self._ledger(publication)
        ledger.published += 1
        ledger.shed += 1
        for group_ledger in self._group_ledgers(publication):
            group_ledger.published += 1
            group_ledger.shed += 1

    def _ledger(self, publication: Publication) -> TopicLedger:
        return self.urgent if publication.priority >= LOWEST_URGENT else self.normal

    def _group_ledgers(self, publication: Publication) -> list[GroupLedger]:
        urgent = publication.priority >= LOWEST_URGENT
        return [(group.urgent if urgent else group.normal).ledger for group in self._groups.values()]
