"""The pure core: no I/O, no clock, no global randomness; it imports no adapter."""
