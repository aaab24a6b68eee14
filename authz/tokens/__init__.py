"""What providers have given for callers: kept in tiers, renewed ahead, asked for once.

``keeper.py`` is the way in.  Everything here is bounded, keyed by digests, and changed on
the event loop only.
"""
