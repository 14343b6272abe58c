"""Bytes by key: datasets, code, logs, models."""
