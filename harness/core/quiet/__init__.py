"""Quiet hosts: what of a host disturbs a measurement, what may be changed for a run, and its way back."""
