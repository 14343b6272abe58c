"""What became of services: calls that were counted, updates, events."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from muster.domain.service import (
    EVENTS_MAX,
    UPDATES_MAX,
    Service,
    ServiceConfig,
    ServiceEvent,
    ServiceUpdate,
)
from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, tells_lists

SQL: Final = load_statements("services")

_CONFIGS: Final = msgspec.json.Decoder(tuple[ServiceConfig, ...])


@dataclass(frozen=True, slots=True)
class Calls:
    """What has been asked of a model of a service."""

    invocations: int = 0
    failures: int = 0

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(self.invocations + other.invocations, self.failures + other.failures)


@tells_lists
def add_calls(tx: Transaction, calls: Mapping[tuple[int, str], Calls]) -> None:
    """Add to what is counted, by service and model. Of services that are gone, nothing."""
    there = {
        service_id
        for service_id in {service_id for service_id, _ in calls}
        if tx.execute(SQL["find_service_by_id"], {"id": service_id}).fetchone() is not None
    }
    for (service_id, model_uid), counted in sorted(calls.items()):
        if service_id in there:
            tx.execute(
                SQL["add_to_service_call"],
                {
                    "service_id": service_id,
                    "model_uid": model_uid,
                    "invocations": counted.invocations,
                    "failures": counted.failures,
                },
            )


def list_calls(connection: Connection, service_ids: Sequence[int]) -> dict[tuple[int, str], Calls]:
    """By service and model."""
    if not service_ids:
        return {}
    rows = connection.execute(
        SQL["list_service_calls"], {"service_ids": json.dumps(list(service_ids))}
    )
    return {(row[0], row[1]): Calls(row[2], row[3]) for row in rows}


# ---------------------------------------------------------------- history


def note_update(
    tx: Transaction, service: Service, *, at_ms: int, result: str, detail: str = ""
) -> None:
    """Begin a line of its update history with what it is to run now."""
    tx.execute(
        SQL["insert_service_update"],
        {
            "service_id": service.id,
            "at_ms": at_ms,
            "result": result,
            "detail": detail,
            "configs": msgspec.json.encode(service.configs).decode(),
        },
    )
    key = {"service_id": service.id, "kept": UPDATES_MAX}
    tx.execute(SQL["trim_service_updates"], key)


def end_updates(tx: Transaction, service: Service, *, result: str, detail: str = "") -> None:
    """Say how the update that is under way has ended, if one is."""
    tx.execute(
        SQL["end_service_updates"],
        {"service_id": service.id, "result": result, "detail": detail},
    )


def list_updates(connection: Connection, service_id: int) -> list[ServiceUpdate]:
    """The latest first."""
    rows = connection.execute(SQL["list_service_updates"], {"service_id": service_id})
    return [
        ServiceUpdate(
            number=row[0],
            at_ms=row[1],
            result=row[2],
            detail=row[3],
            configs=_CONFIGS.decode(row[4]),
        )
        for row in rows
    ]


def note_events(
    tx: Transaction, service: Service, events: Iterable[tuple[bool, str]], *, at_ms: int
) -> None:
    """Write down what happened: (whether that is as it should be, in words)."""
    for is_normal, text in events:
        tx.execute(
            SQL["insert_service_event"],
            {
                "service_id": service.id,
                "at_ms": at_ms,
                "is_normal": int(is_normal),
                "text": text,
            },
        )
    tx.execute(SQL["trim_service_events"], {"service_id": service.id, "kept": EVENTS_MAX})


def list_events(connection: Connection, service_id: int) -> list[ServiceEvent]:
    """First to last."""
    rows = connection.execute(SQL["list_service_events"], {"service_id": service_id})
    return [
        ServiceEvent(number=row[0], at_ms=row[1], is_normal=bool(row[2]), text=row[3])
        for row in rows
    ]
