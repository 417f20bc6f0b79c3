"""The machine that measures: its facts, CPUs, settings, locks and accelerator."""
