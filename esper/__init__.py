"""What thinks: pure, synchronous cores that can be used from a notebook."""
