"""``authz serve --workers N``: several processes on the same ports, and their supervisor.

Each worker is a whole server in a fresh process (gRPC does not survive a fork)
with loop, caches and keys of its own.  The supervisor decides nothing and serves
no call: it holds the ports, reads the files, hands on signals, replaces what
crashes, and answers the operator for all.
"""
