"""One write: its statements, and what they count."""

from muster.store.connection import Connection
from muster.store.counting import Counts


class Transaction:
    """One writer's view of the database. What it counts is written at its end, in key order."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.counts = Counts()
        self.has_work = False  # set by what leaves something for the reconciler to do
