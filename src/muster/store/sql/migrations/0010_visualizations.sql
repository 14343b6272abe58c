-- Visualization jobs (TensorBoard over results), and experiments that training jobs stand in.

CREATE TABLE visualization (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    uid              TEXT NOT NULL UNIQUE,
    project_id       TEXT NOT NULL REFERENCES project (id),
    workspace_id     TEXT NOT NULL,
    name             TEXT NOT NULL,
    description      TEXT NOT NULL DEFAULT '',
    user_name        TEXT NOT NULL,
    train_url        TEXT NOT NULL,              -- as domain.visualization has it: /BUCKET/KEY
    flavor_code      TEXT NOT NULL,
    hours            INTEGER,                    -- until it is stopped, from its start; NULL: never
    token            TEXT NOT NULL,
    answered         TEXT NOT NULL DEFAULT '',   -- the attempt that has answered
    note             TEXT NOT NULL DEFAULT '',   -- how far its start is, or the end of its log
    is_watched       INTEGER NOT NULL DEFAULT 1, -- until its latest start has ended
    created_at_ms    INTEGER NOT NULL,
    workload_id      INTEGER NOT NULL,           -- of its latest start; may be gone
    revision         INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);

CREATE UNIQUE INDEX visualization_name_taken ON visualization (project_id, workspace_id, name);

-- What the keeper looks at.
CREATE INDEX visualization_watched ON visualization (id) WHERE is_watched = 1;

CREATE TABLE experiment (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    uid              TEXT NOT NULL UNIQUE,
    project_id       TEXT NOT NULL REFERENCES project (id),
    workspace_id     TEXT NOT NULL,
    name             TEXT NOT NULL,
    description      TEXT NOT NULL DEFAULT '',
    job_count        INTEGER NOT NULL DEFAULT 0, -- rows in experiment_version
    created_at_ms    INTEGER NOT NULL,
    updated_at_ms    INTEGER NOT NULL,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);

CREATE UNIQUE INDEX experiment_name_taken ON experiment (project_id, workspace_id, name);

-- The listed versions that stand in an experiment.
CREATE TABLE experiment_version (
    version_id       INTEGER PRIMARY KEY,
    experiment_id    INTEGER NOT NULL
);

CREATE INDEX experiment_version_by_experiment ON experiment_version (experiment_id, version_id);
