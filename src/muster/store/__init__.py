"""Rows in, domain values out. The only SQL."""
