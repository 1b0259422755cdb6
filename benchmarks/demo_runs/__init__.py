"""Parts of demo_scores.py: the run, its scores, chance, and the tables."""
