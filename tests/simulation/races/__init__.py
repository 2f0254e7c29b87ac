"""Planted races in the system's own actors: first in, first out shows none, seeds find all."""

from tests.simulation.races import messages, turns

RACES = (*turns.RACES, *messages.RACES)
