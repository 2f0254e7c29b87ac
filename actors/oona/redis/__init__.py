"""Oona on Redis: the bus across processes. All bookkeeping happens in one script inside the server.

In life order: `options`, `address`, `connection`, `server` (is it fit?), `link` (batches, one at a time),
`bell` (wakes who waits), `post` (what goes out), `subscription` (what comes in), `bus` (all of it), `lua`,
the script. Nothing else imports `redis`.
"""
