"""Passes requests on to programs that serve: notebooks, TensorBoards, instances of services."""
