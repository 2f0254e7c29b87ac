"""What breaks under a bus, and that nothing is lost or done twice by it."""
