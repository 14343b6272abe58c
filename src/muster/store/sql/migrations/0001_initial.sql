-- Everything that muster keeps. Times are epoch milliseconds; booleans are 0 or 1.

-- ---------------------------------------------------------------- who may call

CREATE TABLE account (            -- what Keystone calls a domain
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE project (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL REFERENCES account (id),
    is_default INTEGER NOT NULL DEFAULT 0 CHECK (is_default IN (0, 1))
);
CREATE UNIQUE INDEX project_one_default ON project (is_default) WHERE is_default = 1;

CREATE TABLE member (             -- "user" is a reserved word in PostgreSQL
    id            TEXT NOT NULL PRIMARY KEY,
    name          TEXT NOT NULL,
    account_id    TEXT NOT NULL REFERENCES account (id),
    password_hash TEXT NOT NULL,
    is_enabled    INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
    UNIQUE (account_id, name)
);

CREATE TABLE membership (
    member_id  TEXT NOT NULL REFERENCES member (id),
    project_id TEXT NOT NULL REFERENCES project (id),
    role       TEXT NOT NULL,
    is_default INTEGER NOT NULL DEFAULT 0 CHECK (is_default IN (0, 1)),
    PRIMARY KEY (member_id, project_id)
);

CREATE TABLE access_key (
    access        TEXT NOT NULL PRIMARY KEY,
    secret_sealed BLOB NOT NULL,  -- encrypted with the key file, which lies outside the database
    member_id     TEXT NOT NULL REFERENCES member (id),
    is_enabled    INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
    created_at_ms INTEGER NOT NULL
);

CREATE TABLE token (
    digest        BLOB NOT NULL PRIMARY KEY,  -- SHA-256: the token itself is never stored
    member_id     TEXT NOT NULL REFERENCES member (id),
    project_id    TEXT REFERENCES project (id),
    issued_at_ms  INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
);
CREATE INDEX token_by_expiry ON token (expires_at_ms);

-- ---------------------------------------------------------------- what there is to use

CREATE TABLE workspace (
    project_id    TEXT NOT NULL REFERENCES project (id),
    id            TEXT NOT NULL,
    name          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, id)
);

-- The shapes and interpreters come from the inventory at each start; these keep their ids stable.
CREATE TABLE flavor (
    spec_id INTEGER PRIMARY KEY AUTOINCREMENT,
    code    TEXT NOT NULL UNIQUE
);

CREATE TABLE ai_engine (
    engine_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name      TEXT NOT NULL,
    version   TEXT NOT NULL,
    UNIQUE (name, version)
);

CREATE TABLE pool (
    id            TEXT NOT NULL PRIMARY KEY,
    project_id    TEXT NOT NULL REFERENCES project (id),
    display_name  TEXT NOT NULL,
    partition     TEXT NOT NULL,
    phase         TEXT NOT NULL,
    scopes        TEXT NOT NULL,  -- comma separated
    flavor_code   TEXT NOT NULL,
    node_count    INTEGER NOT NULL,
    cpu_millis    INTEGER NOT NULL,
    memory_mib    INTEGER NOT NULL,
    gpu_count     INTEGER NOT NULL,
    npu_count     INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (project_id, display_name)
);

CREATE TABLE node (
    name       TEXT NOT NULL PRIMARY KEY,
    partition  TEXT NOT NULL,
    cpu_millis INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    card_kind  TEXT CHECK (card_kind IN ('gpu', 'npu')),
    cards      TEXT NOT NULL      -- JSON list of device numbers
);
CREATE INDEX node_by_partition ON node (partition, name);

CREATE TABLE bucket (
    name       TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id)
);

-- ---------------------------------------------------------------- what runs

CREATE TABLE workload (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    uid                 TEXT NOT NULL UNIQUE,
    project_id          TEXT NOT NULL REFERENCES project (id),
    workspace_id        TEXT NOT NULL,
    pool_id             TEXT NOT NULL REFERENCES pool (id),
    partition           TEXT NOT NULL,
    type                TEXT NOT NULL CHECK (type IN ('train', 'infer', 'notebook')),
    name                TEXT NOT NULL,
    flavor_code         TEXT NOT NULL,
    task_count          INTEGER NOT NULL CHECK (task_count > 0),
    task_cpu_millis     INTEGER NOT NULL,  -- what one task holds
    task_memory_mib     INTEGER NOT NULL,
    task_gpu_count      INTEGER NOT NULL,
    task_npu_count      INTEGER NOT NULL,
    priority            INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 3),
    run                 TEXT NOT NULL,     -- JSON: what to run; see domain/command.py
    phase               TEXT NOT NULL CHECK (phase IN (
                            'Creating', 'Queued', 'Starting', 'Running', 'Terminating',
                            'Terminated', 'Completed', 'Failed', 'CreateFailed', 'StopFailed',
                            'Lost', 'Unknown')),
    reason              TEXT NOT NULL DEFAULT '',
    message             TEXT NOT NULL DEFAULT '',
    is_deleted          INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1)),
    is_holding          INTEGER NOT NULL DEFAULT 0 CHECK (is_holding IN (0, 1)),
    attempt_id          TEXT,              -- set before an engine is told; never used twice
    engine_ref          TEXT,
    placements          TEXT NOT NULL DEFAULT '[]',
    created_at_ms       INTEGER NOT NULL,
    phase_since_ms      INTEGER NOT NULL,
    started_at_ms       INTEGER,
    ended_at_ms         INTEGER,
    revision            INTEGER NOT NULL DEFAULT 0,
    CHECK ((ended_at_ms IS NOT NULL) = (phase IN (
        'Terminated', 'Completed', 'Failed', 'CreateFailed', 'StopFailed', 'Unknown')))
);
-- The reconciler reads by these three; each holds live rows only, so history costs it nothing.
CREATE INDEX workload_queue ON workload (partition, priority DESC, id) WHERE phase = 'Queued';
CREATE INDEX workload_active ON workload (id)
    WHERE phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR is_holding = 1;
CREATE INDEX workload_deleted ON workload (id) WHERE is_deleted = 1;
CREATE INDEX workload_by_pool ON workload (project_id, pool_id, id) WHERE is_deleted = 0;

-- A card is in use by one workload at a time: the primary key says so.
CREATE TABLE card_hold (
    node_name   TEXT NOT NULL,
    card        INTEGER NOT NULL,
    workload_id INTEGER NOT NULL REFERENCES workload (id),
    PRIMARY KEY (node_name, card)
);
CREATE INDEX card_hold_by_workload ON card_hold (workload_id);

CREATE TABLE event (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    workload_id  INTEGER NOT NULL REFERENCES workload (id),
    at_ms        INTEGER NOT NULL,
    event        TEXT NOT NULL,
    phase_before TEXT NOT NULL,
    phase_after  TEXT NOT NULL,
    reason       TEXT NOT NULL,
    message      TEXT NOT NULL,
    actor        TEXT NOT NULL
);
CREATE INDEX event_by_workload ON event (workload_id, seq);

-- ---------------------------------------------------------------- training jobs

CREATE TABLE job (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id          TEXT NOT NULL REFERENCES project (id),
    workspace_id        TEXT NOT NULL,
    name                TEXT NOT NULL,
    description         TEXT NOT NULL DEFAULT '',
    creator_name        TEXT NOT NULL,
    created_at_ms       INTEGER NOT NULL,
    version_count       INTEGER NOT NULL DEFAULT 0,
    next_version_number INTEGER NOT NULL DEFAULT 1,   -- numbers are never used again
    latest_version_id   INTEGER,
    status              INTEGER NOT NULL DEFAULT 0,   -- of the latest version, as are the next four
    started_at_ms       INTEGER,
    duration_ms         INTEGER DEFAULT 0,            -- NULL while it runs
    engine_type         INTEGER NOT NULL DEFAULT 0,
    is_deleted          INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1))
);
CREATE UNIQUE INDEX job_name_taken ON job (project_id, workspace_id, name) WHERE is_deleted = 0;
CREATE INDEX job_by_id ON job (project_id, workspace_id, id) WHERE is_deleted = 0;
CREATE INDEX job_by_status ON job (project_id, workspace_id, status, id) WHERE is_deleted = 0;

CREATE TABLE version (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id         INTEGER NOT NULL REFERENCES job (id),
    workload_id    INTEGER NOT NULL UNIQUE REFERENCES workload (id),
    project_id     TEXT NOT NULL,
    workspace_id   TEXT NOT NULL,
    pool_id        TEXT NOT NULL DEFAULT '',          -- '' is the public pool: null on the wire
    number         INTEGER NOT NULL,
    pre_version_id INTEGER,
    job_name       TEXT NOT NULL,                     -- as in job: a list sorts by it
    description    TEXT NOT NULL DEFAULT '',          -- likewise
    flavor_code    TEXT NOT NULL,
    gpu_count      INTEGER NOT NULL,                  -- over all workers
    npu_count      INTEGER NOT NULL,
    config         TEXT NOT NULL,                     -- JSON: what was asked for, inherited included
    status         INTEGER NOT NULL CHECK (status BETWEEN 0 AND 21),  -- v1 code of the workload
    created_at_ms  INTEGER NOT NULL,
    started_at_ms  INTEGER,
    ended_at_ms    INTEGER,
    duration_ms    INTEGER DEFAULT 0,                 -- NULL while it runs: it changes by itself
    is_deleted     INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1)),
    UNIQUE (job_id, number)
);
-- create_time order is id order: the writer hands out both ascending.
CREATE INDEX version_by_id ON version (project_id, workspace_id, id) WHERE is_deleted = 0;
CREATE INDEX version_by_status ON version (project_id, workspace_id, status, id)
    WHERE is_deleted = 0;
CREATE INDEX version_by_pool ON version (project_id, workspace_id, pool_id, status, id)
    WHERE is_deleted = 0;

CREATE TABLE job_config (
    project_id    TEXT NOT NULL REFERENCES project (id),
    name          TEXT NOT NULL,
    description   TEXT NOT NULL DEFAULT '',
    config        TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- ---------------------------------------------------------------- counts
-- Written last in each transaction and in key order, in the same transaction as what they count.
-- Without rowids a row is found in one step by its key.

CREATE TABLE tally (
    project_id      TEXT NOT NULL,
    pool_id         TEXT NOT NULL,
    type            TEXT NOT NULL,
    queue           INTEGER NOT NULL DEFAULT 0 CHECK (queue >= 0),
    pending         INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    abnormal        INTEGER NOT NULL DEFAULT 0 CHECK (abnormal >= 0),
    terminating     INTEGER NOT NULL DEFAULT 0 CHECK (terminating >= 0),
    creating        INTEGER NOT NULL DEFAULT 0 CHECK (creating >= 0),
    running         INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    completed       INTEGER NOT NULL DEFAULT 0 CHECK (completed >= 0),
    terminated      INTEGER NOT NULL DEFAULT 0 CHECK (terminated >= 0),
    failed          INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    held_cpu_millis INTEGER NOT NULL DEFAULT 0 CHECK (held_cpu_millis >= 0),
    held_memory_mib INTEGER NOT NULL DEFAULT 0 CHECK (held_memory_mib >= 0),
    held_gpu_count  INTEGER NOT NULL DEFAULT 0 CHECK (held_gpu_count >= 0),
    held_npu_count  INTEGER NOT NULL DEFAULT 0 CHECK (held_npu_count >= 0),
    PRIMARY KEY (project_id, pool_id, type)
) WITHOUT ROWID;

CREATE TABLE version_total (
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    pool_id      TEXT NOT NULL,
    status       INTEGER NOT NULL,
    count        INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (project_id, workspace_id, pool_id, status)
) WITHOUT ROWID;

CREATE TABLE job_total (
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    status       INTEGER NOT NULL,
    count        INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (project_id, workspace_id, status)
) WITHOUT ROWID;
