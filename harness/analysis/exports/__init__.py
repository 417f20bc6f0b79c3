"""Results in formats that other people's tools read."""
