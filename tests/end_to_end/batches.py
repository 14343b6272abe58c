"""Batch services on a real server, for tests."""

from typing import Any, Final

from tests.end_to_end.inference import FLAVOR, Inference

# Says what it was asked; a word of that may ask for more.
READER: Final = """
import json, os, time
from model_service.pytorch_model_service import PTServingBaseService

class Reader(PTServingBaseService):
    def _inference(self, data):
        text = data.decode() if isinstance(data, bytes) else json.dumps(data)
        if "bad" in text:
            raise ValueError("that is no good")
        if "die" in text:
            os._exit(7)
        if "wait" in text:
            time.sleep(float(os.environ.get("WAIT", "0.2")))
        return {"read": text, "pid": os.getpid()}
"""


def reader(inference: Inference) -> str:
    """The id of a model that says what it read."""
    return inference.model(inference.put("reader", customize_service__py=READER))


def put(inference: Inference, folder: str, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        reply = inference.http.put(f"/objects/bucket-default/{folder}/{name}", content=content)
        assert reply.status_code == 200, reply.text
    return f"/bucket-default/{folder}/"


def batch(
    inference: Inference, name: str, model_id: str, files: dict[str, bytes], **more: Any
) -> str:
    """The id of a new batch service over these files; its answers go to NAME-out."""
    part = {
        "model_id": model_id,
        "specification": FLAVOR,
        "instance_count": 1,
        "src_path": put(inference, f"{name}-in", files),
        "dest_path": f"/bucket-default/{name}-out/",
        "mapping_type": "file",
    }
    return inference.deploy(name, part | more, infer_type="batch")


def results(inference: Inference, folder: str) -> dict[str, bytes]:
    """What lies under a folder, by name below it."""
    base = f"/objects/bucket-default?prefix={folder}/"
    listed = inference.http.get(base).json()["objects"]
    keys = [str(one["key"]) for one in listed]
    return {
        key.removeprefix(f"{folder}/"): inference.http.get(f"/objects/bucket-default/{key}").content
        for key in keys
    }
