-- Notebooks, and the images (environments) that they are made from.

CREATE TABLE notebook (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    uid              TEXT NOT NULL UNIQUE,
    project_id       TEXT NOT NULL REFERENCES project (id),
    workspace_id     TEXT NOT NULL,
    name             TEXT NOT NULL,
    description      TEXT NOT NULL DEFAULT '',
    feature          TEXT NOT NULL,
    user_id          TEXT NOT NULL,              -- whose it is; users may be gone
    user_name        TEXT NOT NULL,
    flavor_code      TEXT NOT NULL,
    custom_spec      TEXT NOT NULL DEFAULT 'null', -- JSON, as domain.notebook.CustomSpec
    image_uid        TEXT NOT NULL,
    pool_id          TEXT NOT NULL,
    volume           TEXT NOT NULL,              -- JSON, as domain.notebook.Volume
    token            TEXT NOT NULL,
    lease            TEXT NOT NULL,              -- JSON, as domain.notebook.Lease
    tags             TEXT NOT NULL DEFAULT '{}', -- JSON, value by key
    status           TEXT NOT NULL,
    fail_reason      TEXT NOT NULL DEFAULT '',
    note             TEXT NOT NULL DEFAULT '',
    server_version   TEXT NOT NULL DEFAULT '',
    last_active_ms   INTEGER NOT NULL DEFAULT 0,
    created_at_ms    INTEGER NOT NULL,
    updated_at_ms    INTEGER NOT NULL,
    workload_id      INTEGER NOT NULL,           -- of its latest start; may be gone
    revision         INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);

CREATE INDEX notebook_by_project ON notebook (project_id, workspace_id, id);

-- What the keeper looks at.
CREATE INDEX notebook_live ON notebook (id)
    WHERE status IN ('CREATING', 'STARTING', 'RUNNING', 'STOPPING', 'ERROR', 'DELETING');

CREATE TABLE image (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    uid                 TEXT NOT NULL UNIQUE,
    project_id          TEXT NOT NULL REFERENCES project (id),
    workspace_id        TEXT NOT NULL,
    namespace           TEXT NOT NULL,
    name                TEXT NOT NULL,
    tag                 TEXT NOT NULL,
    interpreter         TEXT NOT NULL,
    description         TEXT NOT NULL DEFAULT '',
    arch                TEXT NOT NULL,
    service_type        TEXT NOT NULL,
    resource_categories TEXT NOT NULL,           -- JSON
    visibility          TEXT NOT NULL,
    user_name           TEXT NOT NULL,
    created_at_ms       INTEGER NOT NULL,
    updated_at_ms       INTEGER NOT NULL,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);

CREATE UNIQUE INDEX image_path_taken ON image (project_id, namespace, name, tag);
