"""Argument parsing and printing; talks through the client."""
