"""Secrets at rest: sealed with a key file that lies outside the database."""

import hmac
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from muster.domain.errors import MusterError


class KeyFileWrong(MusterError):
    """The key file is missing, or is not the one that sealed what is stored."""


class Vault:
    """Seals and opens secrets. A copy of the database alone opens none of them."""

    def __init__(self, key_file: Path) -> None:
        from cryptography.fernet import Fernet

        self._key_file = key_file
        if not key_file.exists():
            try:
                _write_key(key_file, Fernet.generate_key())
            except OSError as error:
                raise KeyFileWrong(
                    f"The key file {key_file} cannot be written ({error.strerror})."
                ) from error
        try:
            self._key = key_file.read_bytes()
            self._fernet = Fernet(self._key)
        except (OSError, ValueError) as error:
            raise KeyFileWrong(f"The key file {key_file} cannot be used: {error}.") from error

    def seal(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def sign(self, purpose: str, text: str) -> str:
        """A signature that nobody else can make; one for another purpose tells nothing of it."""
        key = hmac.digest(self._key, purpose.encode(), "sha256")
        return hmac.new(key, text.encode(), "sha256").hexdigest()

    def open(self, sealed: bytes) -> str:
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise KeyFileWrong(
                f"The key file {self._key_file} is not the one that sealed the stored keys."
                " Put the right one back, or make new keys with `muster key create`."
            ) from error


def _write_key(key_file: Path, key: bytes) -> None:
    """Never readable by others, and never there in part: several servers may start at once."""
    handle, draft = tempfile.mkstemp(prefix=f"{key_file.name}.", dir=key_file.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # then it is another server's, and ours, too
            os.link(draft, key_file)
    finally:
        Path(draft).unlink()
