"""``python -m harness``."""

from harness.shell.cli import main

main()
