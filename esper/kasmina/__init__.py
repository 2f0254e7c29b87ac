"""Kasmina: where a network can grow, and the surgery that lets it."""
