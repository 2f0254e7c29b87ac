"""Oona, the message bus: topics, consumer groups, bounded queues."""
