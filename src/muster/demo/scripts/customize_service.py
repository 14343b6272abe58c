"""Serves what train_digits.py has learnt: tells which digit an image of 8 x 8 pixels shows.

Lies in one folder with train_digits.py and the checkpoint.npz that it leaves. Asked by JSON:

    {"images": [[0, 0, 5, 13, ...], ...]}      64 numbers from 0 to 16 an image

or by a form with files as numpy.save writes them, each one image or many. Answers

    {"digits": [7, ...], "certainty": [0.98, ...]}
"""

from typing import Any

import numpy as np
from model_service.python_model_service import (  # type: ignore[import-not-found]  # of the runner
    XgSklServingBaseService,
)
from train_digits import PIXELS, Network  # type: ignore[import-not-found]  # lies beside this file


class Digits(XgSklServingBaseService):  # type: ignore[misc]  # what it derives from, see above
    def __init__(self, model_name: str, model_path: str) -> None:
        super().__init__(model_name, model_path)
        self.network = Network(seed=0)
        with np.load(f"{model_path}/checkpoint.npz") as stored:
            self.network.weights[:] = stored["weights"]

    def _preprocess(self, data: Any) -> Any:
        if "images" in data and not isinstance(data["images"], dict):
            images = [data["images"]]
        else:
            images = [np.load(file) for files in data.values() for file in files.values()]
        return np.concatenate([np.asarray(one, float).reshape(-1, PIXELS) for one in images]) / 16

    def _inference(self, data: Any) -> Any:
        seen, _ = self.network.probabilities(data)
        return seen

    def _postprocess(self, data: Any) -> dict[str, Any]:
        return {"digits": data.argmax(axis=1), "certainty": data.max(axis=1).round(4)}
