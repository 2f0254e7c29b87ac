"""Models and data to grow on, each by its name."""
