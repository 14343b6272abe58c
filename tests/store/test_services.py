"""Models, services and their instances: the same on every store."""

import uuid
from dataclasses import replace
from typing import Any, Final

import pytest

from muster.domain.batch import BatchJob, MappingType, Tally
from muster.domain.errors import (
    ModelInUse,
    ModelUnknown,
    ModelVersionTaken,
    ServiceNameTaken,
    ServiceUnknown,
    StaleWrite,
)
from muster.domain.model import Health, Model, ModelList, Recipe
from muster.domain.phase import Phase
from muster.domain.program import Program
from muster.domain.rollout import Instance
from muster.domain.service import (
    EVENTS_MAX,
    InferType,
    InstancePhase,
    Service,
    ServiceConfig,
    ServiceList,
    ServiceStatus,
    Wish,
    with_keys,
)
from muster.store import models, service_records, services
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.recount import differences
from muster.store.service_records import Calls
from muster.store.transaction import Transaction
from tests.store.rows import ONE_CPU, OTHER_PROJECT, PROJECT, PUBLIC_POOL

pytestmark = pytest.mark.asyncio

NOW: Final = 1_000


def model(uid: str = "m1", **more: Any) -> Model:
    values: dict[str, Any] = {
        "id": uid,
        "project_id": PROJECT,
        "name": uid,
        "version": "0.0.1",
        "type": "Custom",
        "recipe": Recipe(
            source_location="/b/m/", code="digest", interpreter="/usr/bin/python3", runtime="3"
        ),
    }
    return Model(**(values | more))


def config(model_id: str = "m1", **more: Any) -> ServiceConfig:
    values: dict[str, Any] = {
        "model_id": model_id,
        "model_name": model_id,
        "model_version": "0.0.1",
        "specification": "one",
        "task": ONE_CPU,
        "flavor_code": "one",
        "pool_id": PUBLIC_POOL,
        "partition": "public",
        "instance_count": 2,
        "health": Health(path="/health"),
        "program": Program(name="p", argv=("python", "run.py"), code="digest"),
    }
    return ServiceConfig(**(values | more))


def new_service(uid: str = "s1", **more: Any) -> Service:
    values: dict[str, Any] = {
        "uid": uid,
        "project_id": PROJECT,
        "name": uid,
        "owner_name": "ann",
        "configs": with_keys([config()]),
        "settings": {"vpc_id": None},
        "published_at_ms": NOW,
    }
    return Service(**(values | more))


def add(tx: Transaction, /, uid: str = "s1", **more: Any) -> Service:
    """A service with its instances."""
    made = services.insert_service(tx, new_service(uid, **more))
    for part in made.configs:
        for _ in range(part.instance_count):
            services.start_instance(tx, made, part, uid=uuid.uuid4().hex, now_ms=NOW)
    return made


def instances_of(connection: Connection, service: Service) -> tuple[Instance, ...]:
    return services.list_instances(connection, [service.id]).get(service.id, ())


async def check_counts(database: Database) -> None:
    assert await database.scan(lambda connection: list(differences(connection))) == []


async def test_a_model_is_read_as_it_was_stored(database: Database) -> None:
    await database.write(models.insert_model, model())

    assert await database.read(models.get_model, PROJECT, "m1") == model()
    assert await database.read(models.find_model, OTHER_PROJECT, "m1") is None
    with pytest.raises(ModelVersionTaken):
        await database.write(models.insert_model, model("m2", name="m1"))
    await check_counts(database)  # its snapshot is used
    await database.write(models.delete_model, PROJECT, "m1")
    with pytest.raises(ModelUnknown):
        await database.write(models.delete_model, PROJECT, "m1")
    await check_counts(database)


async def test_versions_of_a_model_are_in_the_order_of_their_numbers(database: Database) -> None:
    for number in (10, 9, 1):
        one = model(f"m{number}", name="m", version=f"0.0.{number}")
        await database.write(models.insert_model, one)

    query = ModelList(project_id=PROJECT, workspace_id="0", sort_by="model_version")
    total, page = await database.read(models.page_of_models, query)

    assert (total, [one.version for one in page]) == (3, ["0.0.10", "0.0.9", "0.0.1"])


async def test_a_service_is_read_as_it_was_stored_and_guarded(database: Database) -> None:
    made = await database.write(add)

    found = await database.read(services.get_service, PROJECT, "s1")
    changed = await database.write(
        services.update_service, replace(found, status=ServiceStatus.RUNNING)
    )

    assert found == made
    assert changed.revision == found.revision + 1
    assert await database.read(services.get_service, PROJECT, "s1") == changed
    with pytest.raises(StaleWrite):
        await database.write(services.update_service, found)
    with pytest.raises(ServiceUnknown):
        await database.read(services.get_service, OTHER_PROJECT, "s1")
    with pytest.raises(ServiceNameTaken):
        await database.write(services.insert_service, new_service("s2", name="s1"))


async def test_a_batch_is_read_as_it_was_stored_finished_too(database: Database) -> None:
    job = BatchJob(
        src_path="/b/in/",
        dest_path="/b/out/",
        mapping_type=MappingType.CSV,
        mapping_rule={"type": "object", "properties": {"x": {"type": "string", "index": 0}}},
    )
    settings = {"additional_properties": {"tally": 5}}
    made = await database.write(
        add, infer_type=InferType.BATCH, configs=with_keys([config(batch=job)]), settings=settings
    )
    tally = Tally(total=3, answered=2, failed=1, percent=100, failures=(("a", "no"),))

    stopped = await database.write(
        services.update_service, replace(made, status=ServiceStatus.STOPPED, tally=Tally(total=1))
    )
    stopped_as_read = await database.read(services.get_service, PROJECT, "s1")
    finished = await database.write(
        services.update_service,
        replace(stopped, status=ServiceStatus.FINISHED, is_deployed=True, tally=tally),
    )

    async def listed(status: str) -> list[Service]:
        query = ServiceList(project_id=PROJECT, workspace_id="0", status=status)
        _, page = await database.read(services.page_of_services, query)
        return page

    assert (made.configs[0].batch, made.tally) == (job, None)
    assert stopped_as_read == stopped
    assert await database.read(services.get_service, PROJECT, "s1") == finished
    assert await listed("finished") == [finished]
    assert await listed("stopped") == []
    assert finished.settings == settings


async def test_only_what_may_change_is_kept_for_the_keeper(database: Database) -> None:
    made = await database.write(add)
    before = await database.read(services.list_kept)

    await database.write(services.update_service, replace(made, wish=Wish.STOPPED), is_kept=False)

    assert before == {made.id: 0}
    assert await database.read(services.list_kept) == {}


async def test_instances_are_workloads_that_are_counted(database: Database) -> None:
    made = await database.write(add)
    first, second = await database.read(instances_of, made)

    def change(tx: Transaction) -> None:
        services.mark_instance(tx, first, InstancePhase.READY, now_ms=NOW + 5)
        services.drop_instance(tx, second, now_ms=NOW, actor="ann")

    await database.write(change)

    [left] = await database.read(instances_of, made)
    assert (left.phase, left.ready_at_ms, left.since_ms) == (InstancePhase.READY, NOW + 5, NOW + 5)
    assert left.workload_phase is Phase.CREATING
    await check_counts(database)
    await database.write(services.mark_instance, left, InstancePhase.DRAINING, now_ms=NOW + 9)
    [drained] = await database.read(instances_of, made)
    assert (drained.ready_at_ms, drained.since_ms) == (NOW + 5, NOW + 9)


async def test_a_deleted_service_leaves_nothing_and_stops_what_runs(database: Database) -> None:
    await database.write(models.insert_model, model())
    made = await database.write(add)
    with pytest.raises(ModelInUse, match="s1"):
        await database.write(models.delete_model, PROJECT, "m1")
    await database.write(service_records.note_update, made, at_ms=NOW, result="RUNNING")
    await database.write(service_records.note_events, made, [(True, "made")], at_ms=NOW)
    await database.write(service_records.add_calls, {(made.id, "m1"): Calls(2, 1)})

    await database.write(services.delete_service, made, now_ms=NOW, actor="ann")

    assert await database.read(services.find_service, "s1") is None
    await database.write(models.delete_model, PROJECT, "m1")
    await check_counts(database)
    await database.write(add)  # the name is free again


async def test_a_model_is_in_use_as_long_as_a_service_may_go_back_to_it(
    database: Database,
) -> None:
    await database.write(models.insert_model, model())
    made = await database.write(add)
    other = with_keys([config("m2")])

    updating = await database.write(
        services.update_service,
        replace(made, configs=other, configs_before=made.configs),
    )
    with pytest.raises(ModelInUse):
        await database.write(models.delete_model, PROJECT, "m1")
    await database.write(services.update_service, replace(updating, configs_before=()))

    await database.write(models.delete_model, PROJECT, "m1")


async def test_traffic_goes_to_ready_instances_alone(database: Database) -> None:
    made = await database.write(add)
    first, _ = await database.read(instances_of, made)
    await database.write(services.mark_instance, first, InstancePhase.READY, now_ms=NOW)

    traffic = await database.read(services.find_traffic, "s1")

    assert traffic is not None
    assert traffic.backends == ()  # it is marked, but its workload does not run
    assert [share.weight for share in traffic.shares] == [100]
    assert await database.read(services.find_traffic, "s9") is None


async def test_calls_add_up(database: Database) -> None:
    made = await database.write(add)
    key = (made.id, "m1")

    await database.write(service_records.add_calls, {key: Calls(3, 1), (999, "m1"): Calls(1, 0)})
    await database.write(service_records.add_calls, {key: Calls(2, 0)})

    assert await database.read(service_records.list_calls, [made.id]) == {key: Calls(5, 1)}


async def test_the_history_is_numbered_ended_and_bounded(database: Database) -> None:
    made = await database.write(add)
    await database.write(service_records.note_update, made, at_ms=NOW, result="RUNNING")
    await database.write(service_records.end_updates, made, result="FAIL", detail="why")
    await database.write(service_records.note_update, made, at_ms=NOW + 1, result="RUNNING")
    many = [(True, str(number)) for number in range(EVENTS_MAX + 5)]

    await database.write(service_records.note_events, made, many, at_ms=NOW)

    updates = await database.read(service_records.list_updates, made.id)
    assert [(one.number, one.result, one.detail) for one in updates] == [
        (2, "RUNNING", ""),
        (1, "FAIL", "why"),
    ]
    assert updates[0].configs == made.configs
    events = await database.read(service_records.list_events, made.id)
    assert len(events) == EVENTS_MAX
    assert events[-1].text == str(EVENTS_MAX + 4)
    assert [one.number for one in events] == list(range(6, EVENTS_MAX + 6))


async def test_lists_are_of_one_workspace_of_one_project(database: Database) -> None:
    await database.write(add)
    await database.write(add, "s2", configs=with_keys([config("m2")]))

    def names(**query: Any) -> ServiceList:
        return ServiceList(**({"project_id": PROJECT, "workspace_id": "0"} | query))

    total, page = await database.read(services.page_of_services, names(model_id="m2"))
    elsewhere, _ = await database.read(services.page_of_services, names(project_id=OTHER_PROJECT))

    assert (total, [one.name for one in page], elsewhere) == (1, ["s2"], 0)
    counts = await database.read(services.count_services_in_pool, PROJECT, PUBLIC_POOL)
    assert counts["realtime_count"] == 2
