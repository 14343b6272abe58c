"""Passes requests on to programs that serve: notebooks, and instances of services."""
