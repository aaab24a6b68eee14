"""``make bench``: what a Check costs, and what the figure stands against in the same run."""
