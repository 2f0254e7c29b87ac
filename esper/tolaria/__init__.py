"""Tolaria, the trainer: the one owner of every change to the module and to the optimizer."""
