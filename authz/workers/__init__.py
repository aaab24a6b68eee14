"""``authz serve --workers N``: several processes on the same ports, and their supervisor.

Each worker is a whole server in a fresh process (gRPC does not survive a fork)
with its own loop, caches and keys.  The supervisor serves no call: it holds the
ports, reads the files, passes signals on, replaces workers that end, and answers
the operator for all of them.
"""
