"""Oona on Redis: the bus across processes. All bookkeeping happens in one script inside the server.

In life order: `options`, `address`, `connection`, `server` (is it fit?), `line` (connects, ever again),
`waiting` and `batches` (what goes together), `link` (sends, and hears the answers), `bell` (wakes who waits),
`post` (what goes out), `subscription` (what comes in), `bus` (all of it), `lua`, the script. Nothing else
imports `redis`.
"""
