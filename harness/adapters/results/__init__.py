"""Run directories, and results that others made."""
