"""The actor runtime: mailboxes, supervision, clocks, and the system that runs them."""
