"""Who is calling, once it is known."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    user_id: str
    user_name: str
    project_id: str
    role: str
