"""What a user may choose from: specs, engines, built-in algorithms, job configurations."""

from collections.abc import Sequence
from typing import Any

import msgspec

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training import amount, config_fields, engine_fields, flavor_fields
from muster.domain.catalogue import Catalogue
from muster.domain.errors import JobUnknown
from muster.domain.training import TrainingConfig, V1Config, check_description, check_name
from muster.store import jobs, listing, pools
from muster.store.connection import Connection
from muster.store.jobs import JobConfig
from muster.store.transaction import Transaction
from muster.wire.decode import decode_body, decode_query
from muster.wire.training import (
    AlgorithmList,
    AlgorithmsQuery,
    ConfigDetail,
    ConfigList,
    ConfigQuery,
    ConfigRow,
    ConfigsQuery,
    Done,
    EngineList,
    EnginesQuery,
    EngineView,
    JobConfigBody,
    NewJobConfig,
    SpecList,
    SpecsQuery,
    SpecView,
)

_CONFIG = msgspec.json.Decoder(TrainingConfig)


async def list_specs(services: Services, request: Request) -> Reply:
    """Flavors; an engine runs on all of them, so `engine_id` is only checked."""
    query = decode_query(request.query, SpecsQuery, body=await request.body())
    if query.engine_id:
        services.catalogue.engine(query.engine_id)
    specs = [
        SpecView(
            spec_id=flavor.spec_id,
            core=amount(flavor.task.cpu_millis, 1000),
            cpu=amount(flavor.task.memory_mib, 1024),
            gpu_num=flavor.task.gpu_count,
            gpu_type=flavor.card_model if flavor.task.gpu_count else "",
            npu_num=flavor.task.npu_count,
            spec_code=flavor.code,
            max_num=flavor.task_count_max,
            unit_num=1,
            no_resource=False,
        )
        for flavor in services.catalogue.flavors
    ]
    return json_reply(SpecList(spec_total_count=len(specs), specs=specs))


async def list_engines(services: Services, request: Request) -> Reply:
    decode_query(request.query, EnginesQuery, body=await request.body())
    return json_reply(
        EngineList(
            engines=[
                EngineView(
                    engine_type=engine.engine_type,
                    engine_id=engine.engine_id,
                    engine_name=engine.name,
                    engine_version=engine.version,
                )
                for engine in services.catalogue.engines
            ]
        )
    )


async def list_algorithms(services: Services, request: Request) -> Reply:
    """None come with muster: the list is empty, and says so."""
    decode_query(request.query, AlgorithmsQuery, body=await request.body())
    return json_reply(AlgorithmList(model_total_count=0, models=[]))


async def create_config(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), NewJobConfig)
    check_name("config_name", body.config_name)
    check_description("config_desc", body.config_desc or "")
    config = JobConfig(
        name=body.config_name,
        description=body.config_desc or "",
        config=_stored(body),
        created_at_ms=services.clock_ms(),
    )
    await services.database.write(jobs.insert_config, request.caller.project_id, config)
    return json_reply(Done())


def _stored(config: V1Config) -> str:
    return msgspec.json.encode(config.alone()).decode()


async def list_configs(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, ConfigsQuery, body=await request.body())
    if query.config_type == "sample":
        return json_reply(ConfigList(config_total_count=0, configs=[]))
    total, rows = await services.database.scan(
        listing.page_of_configs,
        project_id=request.caller.project_id,
        search=query.search_content,
        sort_key=query.sortBy or query.sort_by or "config_name",
        is_descending=query.order == "desc",
        offset=(query.page - 1) * query.per_page,
        limit=query.per_page,
    )
    return json_reply(
        ConfigList(
            config_total_count=total, configs=[_row(row, services.catalogue) for row in rows]
        )
    )


def _row(row: Sequence[Any], catalogue: Catalogue) -> ConfigRow:
    name, description, text, created_at_ms = row
    config = _CONFIG.decode(text)
    return ConfigRow(
        config_name=name,
        config_desc=description,
        create_time=created_at_ms,
        user_image_url=config.user_image_url,
        user_command=config.user_command,
        **engine_fields(config, catalogue),
    )


async def show_config(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, ConfigQuery, body=await request.body())
    name = request.params[1]
    if query.config_type == "sample":
        raise JobUnknown(f"config_name is {name!r}; there are no sample configurations.")

    def read(connection: Connection) -> ConfigDetail:
        project_id = request.caller.project_id
        stored = jobs.get_config(connection, project_id, name)
        return _detail(connection, project_id, stored, services.catalogue)

    return json_reply(await services.database.read(read))


def _detail(
    connection: Connection, project_id: str, stored: JobConfig, catalogue: Catalogue
) -> ConfigDetail:
    config = _CONFIG.decode(stored.config)
    flavor = next((f for f in catalogue.flavors if f.spec_id == config.spec_id), None)
    pool = pools.find_pool(connection, project_id, config.pool_id) if config.pool_id else None
    shape = flavor_fields(flavor.code if flavor else "", catalogue)
    shape.pop("npu_num")
    shape["spec_id"] = config.spec_id
    return ConfigDetail(
        config_name=stored.name,
        config_desc=stored.description,
        create_time=stored.created_at_ms,
        worker_server_num=config.worker_server_num,
        model_id=config.model_id,
        dataset_id=config.dataset_id,
        dataset_version_id=config.dataset_version_id,
        spec_code=flavor.code if flavor else None,
        pool_id=config.pool_id,
        pool_name=pool.display_name if pool else None,
        **shape,
        **engine_fields(config, catalogue),
        **config_fields(config),
    )


async def update_config(services: Services, request: Request) -> Reply:
    """What the body names is replaced whole; what it leaves out stays."""
    body = decode_body(await request.body(), JobConfigBody)
    check_description("config_desc", body.config_desc or "")
    project_id, name = request.caller.project_id, request.params[1]

    def update(tx: Transaction) -> None:
        stored = jobs.get_config(tx.connection, project_id, name)
        config = body.over(_CONFIG.decode(stored.config))
        description = stored.description if body.config_desc is None else body.config_desc
        jobs.update_config(
            tx,
            project_id,
            JobConfig(
                name=name,
                description=description,
                config=_stored(config),
                created_at_ms=stored.created_at_ms,
            ),
        )

    await services.database.write(update)
    return json_reply(Done())


async def delete_config(services: Services, request: Request) -> Reply:
    await services.database.write(jobs.delete_config, request.caller.project_id, request.params[1])
    return json_reply(Done())
