"""Runs workloads somewhere: start, observe, stop."""
