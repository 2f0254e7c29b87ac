"""What acts: everything that waits."""
