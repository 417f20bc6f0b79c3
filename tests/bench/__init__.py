"""How fast is the harness itself? `make bench`; docs/performance.md has what came out."""
