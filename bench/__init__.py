"""``make bench``: medians, and what they stand against in the same run."""
