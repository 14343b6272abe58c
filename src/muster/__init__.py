"""muster runs, queues and counts AI jobs on your own machines."""

from importlib.metadata import version

__version__ = version("muster")
