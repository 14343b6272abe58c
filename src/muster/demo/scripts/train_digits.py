"""Learn to read handwritten digits: 8 x 8 pixels each, ten kinds.

python train_digits.py --data_url=FOLDER --train_url=FOLDER --learning_rate=0.1 --epochs=20

FOLDER of --data_url may hold digits.npz with `images` (n x 64, 0 to 16) and `labels` (n, 0 to 9);
without it the digits come from scikit-learn. Every epoch prints one line, and leaves checkpoint.npz
and metrics.json in the folder of --train_url.
"""

import argparse
import json
import os
import sys
from pathlib import Path

# The matrices are small: more threads would only stand in each other's way. Read once, by numpy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PIXELS, HIDDEN, KINDS = 64, 48, 10
BATCH = 32
TEST_SHARE = 4  # every fourth image is kept for the test


class Network:
    """One hidden layer. All weights lie in one vector, so that workers can exchange them."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        shapes = ((PIXELS, HIDDEN), (HIDDEN,), (HIDDEN, KINDS), (KINDS,))
        sizes = [int(np.prod(shape)) for shape in shapes]
        self.weights = random.normal(0, 0.15, sum(sizes))
        starts = np.cumsum([0, *sizes])
        # Views: what changes in the vector changes in them.
        self.into_hidden, self.hidden_bias, self.into_kinds, self.kind_bias = (
            self.weights[start : start + size].reshape(shape)
            for start, size, shape in zip(starts, sizes, shapes, strict=False)
        )

    def probabilities(self, images: Floats) -> tuple[Floats, Floats]:
        """What it sees in each image, and the hidden layer on the way there."""
        hidden = np.maximum(images @ self.into_hidden + self.hidden_bias, 0)
        scores = hidden @ self.into_kinds + self.kind_bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True), hidden

    def learn(self, images: Floats, labels: Integers, learning_rate: float) -> float:
        """One step down the slope of the loss; the loss before it."""
        seen, hidden = self.probabilities(images)
        rows = np.arange(len(labels))
        loss = -np.log(seen[rows, labels] + 1e-12).mean()
        error = seen.copy()
        error[rows, labels] -= 1
        error /= len(labels)
        hidden_error = (error @ self.into_kinds.T) * (hidden > 0)
        self.into_kinds -= learning_rate * (hidden.T @ error)
        self.kind_bias -= learning_rate * error.sum(axis=0)
        self.into_hidden -= learning_rate * (images.T @ hidden_error)
        self.hidden_bias -= learning_rate * hidden_error.sum(axis=0)
        return float(loss)

    def learn_epoch(
        self, images: Floats, labels: Integers, learning_rate: float, seed: int
    ) -> float:
        """See every image once, in a new order; the mean loss."""
        order = np.random.default_rng(seed).permutation(len(labels))
        losses = [
            self.learn(images[part], labels[part], learning_rate)
            for part in np.split(order, range(BATCH, len(order), BATCH))
        ]
        return float(np.mean(losses))

    def accuracy(self, images: Floats, labels: Integers) -> float:
        seen, _ = self.probabilities(images)
        return float((seen.argmax(axis=1) == labels).mean())


class Digits:
    """Images and labels, some to learn from and some to be tested with."""

    def __init__(self, data_folder: str | None) -> None:
        images, labels = _load(data_folder)
        is_test = np.arange(len(labels)) % TEST_SHARE == 0
        self.images, self.labels = images[~is_test] / 16, labels[~is_test]
        self.test_images, self.test_labels = images[is_test] / 16, labels[is_test]


def _load(data_folder: str | None) -> tuple[Floats, Integers]:
    file = Path(data_folder or "") / "digits.npz"
    if data_folder and file.is_file():
        with np.load(file) as stored:
            return stored["images"].astype(np.float64), stored["labels"].astype(np.int64)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels.astype(np.int64)


def read_arguments() -> argparse.Namespace:
    """The hyperparameters; ends the program where one of them makes no sense."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--data_url")
    parser.add_argument("--train_url")
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    if not arguments.learning_rate > 0:
        sys.exit(f"learning_rate is {arguments.learning_rate}; it must be above 0.")
    if arguments.epochs < 1:
        sys.exit(f"epochs is {arguments.epochs}; it must be at least 1.")
    return arguments


def save(folder: str | None, network: Network, metrics: dict[str, float]) -> None:
    """Leave a checkpoint and the metrics, each replaced as a whole: nobody reads half of one."""
    if not folder:
        return
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with (target / "checkpoint.part").open("wb") as part:
        np.savez(part, weights=network.weights)
    (target / "checkpoint.part").replace(target / "checkpoint.npz")
    (target / "metrics.part").write_text(json.dumps(metrics), encoding="utf-8")
    (target / "metrics.part").replace(target / "metrics.json")


def main() -> None:
    arguments = read_arguments()
    digits = Digits(arguments.data_url)
    network = Network(seed=0)
    for epoch in range(1, arguments.epochs + 1):
        loss = network.learn_epoch(digits.images, digits.labels, arguments.learning_rate, epoch)
        accuracy = network.accuracy(digits.test_images, digits.test_labels)
        print(f"epoch {epoch}/{arguments.epochs} loss {loss:.4f} accuracy {accuracy:.3f}")
        save(arguments.train_url, network, {"epoch": epoch, "loss": loss, "accuracy": accuracy})
        if not np.isfinite(loss):
            sys.exit(
                f"The loss is {loss}: a learning_rate of {arguments.learning_rate} is too high."
            )


if __name__ == "__main__":
    main()
