"""Reports as one HTML page: comparisons and series in, text out; nothing is read or written here."""
