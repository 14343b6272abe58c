"""Learn to read handwritten digits with several workers that share what they learn.

Takes the same arguments as train_digits.py. Each worker learns from its own part of the images;
after every epoch all of them send their weights to worker 0 and get the mean back. They find one
another by the variables that every task of a job has: VC_TASK_INDEX and VC_WORKER_NUM tell which of
how many this one is, MASTER_ADDR and MASTER_PORT where worker 0 listens.
"""

import os
import socket
import time
from collections.abc import Sequence

import numpy as np
from train_digits import (  # type: ignore[import-not-found]  # the file beside this one, in the job
    Digits,
    Floats,
    Network,
    read_arguments,
    save,
)

MEETING_SECONDS_MAX = 60.0  # until every worker has come up


class Team:
    """The workers of one job. Worker 0 holds a line to each other one; they hold one to it."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("VC_TASK_INDEX") or os.environ["NODE_RANK"])
        self.size = int(os.environ.get("VC_WORKER_NUM") or os.environ["NNODES"])
        address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        self.lines = _listen(address, self.size - 1) if self.rank == 0 else [_call(address)]

    def mean(self, weights: Floats) -> Floats:
        """The mean of what every worker gives here; the same for all of them."""
        if self.rank == 0:
            given = [weights, *(_receive(line, weights) for line in self.lines)]
            weights = np.mean(given, axis=0)
            for line in self.lines:
                line.sendall(weights.tobytes())
            return weights
        [line] = self.lines
        line.sendall(weights.tobytes())
        return _receive(line, weights)


def _listen(address: tuple[str, int], count: int) -> Sequence[socket.socket]:
    with socket.create_server(address) as door:
        door.settimeout(MEETING_SECONDS_MAX)
        lines = [door.accept()[0] for _ in range(count)]
    for line in lines:
        line.settimeout(MEETING_SECONDS_MAX)
    return lines


def _call(address: tuple[str, int]) -> socket.socket:
    deadline = time.monotonic() + MEETING_SECONDS_MAX
    while True:
        try:
            return socket.create_connection(address, timeout=MEETING_SECONDS_MAX)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # worker 0 is not up yet


def _receive(line: socket.socket, like: Floats) -> Floats:
    received = bytearray()
    while len(received) < like.nbytes:
        part = line.recv(like.nbytes - len(received))
        if not part:
            raise SystemExit("Another worker has gone: the line to it was closed.")
        received += part
    return np.frombuffer(received, dtype=like.dtype)


def main() -> None:
    arguments = read_arguments()
    digits = Digits(arguments.data_url)
    team = Team()
    images = digits.images[team.rank :: team.size]
    labels = digits.labels[team.rank :: team.size]
    print(f"worker {team.rank} of {team.size}: {len(labels)} images of my own")
    network = Network(seed=0)  # the same start for all
    for epoch in range(1, arguments.epochs + 1):
        loss = network.learn_epoch(images, labels, arguments.learning_rate, seed=epoch)
        network.weights[:] = team.mean(network.weights)
        accuracy = network.accuracy(digits.test_images, digits.test_labels)
        print(
            f"worker {team.rank} of {team.size}:"
            f" epoch {epoch}/{arguments.epochs} loss {loss:.4f} shared accuracy {accuracy:.3f}"
        )
        if team.rank == 0:
            metrics = {"epoch": epoch, "loss": loss, "accuracy": accuracy}
            save(arguments.train_url, network, metrics)


if __name__ == "__main__":
    main()
