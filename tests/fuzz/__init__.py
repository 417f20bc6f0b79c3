"""Fuzzing of everything that reads what others wrote: ``python -m fuzz``; see docs/fuzzing.md."""
