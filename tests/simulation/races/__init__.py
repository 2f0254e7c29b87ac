"""Planted races: realistic bugs that no first-in-first-out order shows, and a seeded one finds."""

from tests.simulation.races import admission, delivery, training

RACES = (*admission.RACES, *delivery.RACES, *training.RACES)
