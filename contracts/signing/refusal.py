"""Why a frame is refused: reasons for machines, one sentence for people, never a secret or a MAC."""

from enum import StrEnum

import msgspec


class Refusal(StrEnum):
    """What was wrong with a frame."""

    UNSIGNED = "unsigned"
    MALFORMED = "malformed"
    """The signature has not the one form that there is, or something is too large."""
    UNKNOWN_KEY = "unknown_key"
    BAD_MAC = "bad_mac"
    STALE = "stale"
    FUTURE = "future"
    BEFORE_BIRTH = "before_birth"
    FORBIDDEN_SENDER = "forbidden_sender"
    REPLAYED = "replayed"
    """A signature that was admitted under another event id or topic."""
    ID_REUSED = "id_reused"
    """An event id that was admitted with another envelope."""
    NONCES_FULL = "nonces_full"


class SignatureRefused(ValueError):
    """A frame that is not taken as said; nothing of it was remembered."""

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return self.text


class AdmissionCounts(msgspec.Struct, frozen=True):
    """What admission has seen since it began, in frames."""

    admitted: int
    """For the first time."""
    repeats: int
    refused: dict[Refusal, int]
    """Every reason is there, most of them with 0."""

    @property
    def refused_total(self) -> int:
        return sum(self.refused.values())
