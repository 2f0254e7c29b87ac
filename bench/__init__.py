"""Named benchmarks; `python -m bench` runs them."""
