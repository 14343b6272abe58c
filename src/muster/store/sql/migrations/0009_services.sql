-- Models, and the services that run them.

CREATE TABLE model (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    uid           TEXT NOT NULL UNIQUE,
    project_id    TEXT NOT NULL REFERENCES project (id),
    workspace_id  TEXT NOT NULL,
    name          TEXT NOT NULL,
    version       TEXT NOT NULL,
    version_rank  INTEGER NOT NULL,           -- greater for a later version
    type          TEXT NOT NULL,
    description   TEXT NOT NULL DEFAULT '',
    creator_name  TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL,
    code          TEXT NOT NULL,              -- digest of the snapshot of its folder
    recipe        TEXT NOT NULL,              -- JSON, as domain.model.Recipe
    created_at_ms INTEGER NOT NULL,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);
CREATE UNIQUE INDEX model_version_taken ON model (project_id, workspace_id, name, version);

CREATE TABLE service (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    uid               TEXT NOT NULL UNIQUE,
    project_id        TEXT NOT NULL REFERENCES project (id),
    workspace_id      TEXT NOT NULL,
    name              TEXT NOT NULL,
    description       TEXT NOT NULL DEFAULT '',
    owner_name        TEXT NOT NULL,
    infer_type        TEXT NOT NULL,
    wish              TEXT NOT NULL CHECK (wish IN ('running', 'stopped')),
    status            TEXT NOT NULL CHECK (status IN (
                          'deploying', 'waiting', 'running', 'concerning', 'failed', 'stopping',
                          'stopped')),
    error             TEXT NOT NULL DEFAULT '',
    balancing         TEXT NOT NULL,
    priority          INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 3),
    configs           TEXT NOT NULL,          -- JSON, as domain.service.ServiceConfig
    configs_before    TEXT NOT NULL DEFAULT '[]', -- likewise, while an update is under way
    is_deployed       INTEGER NOT NULL DEFAULT 0 CHECK (is_deployed IN (0, 1)),
    is_kept           INTEGER NOT NULL DEFAULT 1 CHECK (is_kept IN (0, 1)), -- it needs a keeper
    settings          TEXT NOT NULL DEFAULT '{}',
    allows_websockets INTEGER NOT NULL DEFAULT 0 CHECK (allows_websockets IN (0, 1)),
    due_at_ms         INTEGER,
    published_at_ms   INTEGER NOT NULL,
    updated_at_ms     INTEGER NOT NULL,
    transition_at_ms  INTEGER NOT NULL,
    started_at_ms     INTEGER,
    revision          INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);
CREATE UNIQUE INDEX service_name_taken ON service (project_id, workspace_id, name);
CREATE INDEX service_kept ON service (id) WHERE is_kept = 1;

-- Which models a service runs, or goes back to: these are not deleted.
CREATE TABLE service_model (
    service_id INTEGER NOT NULL REFERENCES service (id),
    model_uid  TEXT NOT NULL,
    PRIMARY KEY (service_id, model_uid)
) WITHOUT ROWID;
CREATE INDEX service_model_by_model ON service_model (model_uid);

CREATE TABLE service_instance (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id    INTEGER NOT NULL REFERENCES service (id),
    config_key    TEXT NOT NULL,
    workload_id   INTEGER NOT NULL UNIQUE REFERENCES workload (id),
    phase         TEXT NOT NULL CHECK (phase IN ('starting', 'ready', 'unready', 'draining')),
    since_ms      INTEGER NOT NULL,
    ready_at_ms   INTEGER,
    tries         INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX service_instance_by_service ON service_instance (service_id, id);

-- What has been asked of each model of a service. Added to now and then, not with each request.
CREATE TABLE service_call (
    service_id       INTEGER NOT NULL REFERENCES service (id),
    model_uid        TEXT NOT NULL,
    invocation_count INTEGER NOT NULL CHECK (invocation_count >= 0),
    failure_count    INTEGER NOT NULL CHECK (failure_count >= 0),
    PRIMARY KEY (service_id, model_uid)
) WITHOUT ROWID;

CREATE TABLE service_update (
    service_id INTEGER NOT NULL REFERENCES service (id),
    number     INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    result     TEXT NOT NULL CHECK (result IN ('SUCCESS', 'FAIL', 'RUNNING')),
    detail     TEXT NOT NULL DEFAULT '',
    configs    TEXT NOT NULL,
    PRIMARY KEY (service_id, number)
) WITHOUT ROWID;

-- Numbered 1, 2, 3 ... within the service.
CREATE TABLE service_event (
    service_id INTEGER NOT NULL REFERENCES service (id),
    number     INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    is_normal  INTEGER NOT NULL CHECK (is_normal IN (0, 1)),
    text       TEXT NOT NULL,
    PRIMARY KEY (service_id, number)
) WITHOUT ROWID;
