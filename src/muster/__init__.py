"""muster runs, queues and counts AI jobs on your own machines."""

# Here and nowhere else: to ask for the metadata of packages takes a tenth of a start.
__version__ = "0.1.0"
