"""Drills: dangerous blueprints let loose on purpose, to show that the safety checks hold."""
