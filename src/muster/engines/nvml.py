"""NVIDIA's management library, where there is one.

Its binding takes 50 ms to import, a tenth of a start: only a machine with a driver pays for it.
"""

import ctypes
from typing import Any, Final

_LIBRARY: Final = "libnvidia-ml.so.1"


def open_nvml() -> Any | None:
    """The binding `pynvml`, set up; None without a driver. It stays set up."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
