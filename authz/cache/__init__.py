"""What is remembered: bounded, keyed by digests, changed on the event loop only."""
