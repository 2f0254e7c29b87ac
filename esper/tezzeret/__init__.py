"""Tezzeret thinks: how a kernel is made and judged, and in which order kernels are made."""
