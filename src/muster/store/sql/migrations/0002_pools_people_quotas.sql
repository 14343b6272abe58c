-- Pools that users make and resize, on hosts that lend them cards; workspaces with access and
-- quotas; roles; attempts with a limit and retries.

-- ---------------------------------------------------------------- what there is to use

-- The machines of the inventory. The nodes of pools are dealt from them, cards one by one.
CREATE TABLE host (
    name             TEXT NOT NULL PRIMARY KEY,
    cpu_millis       INTEGER NOT NULL,  -- as promised: oversubscribed, likewise the memory
    memory_mib       INTEGER NOT NULL,
    card_kind        TEXT CHECK (card_kind IN ('gpu', 'npu')),
    card_model       TEXT NOT NULL DEFAULT '',
    cards            TEXT NOT NULL,     -- JSON list of device numbers
    is_present       INTEGER NOT NULL DEFAULT 1 CHECK (is_present IN (0, 1)),
    is_up            INTEGER NOT NULL DEFAULT 1 CHECK (is_up IN (0, 1)),
    message          TEXT NOT NULL DEFAULT ''
);

CREATE TABLE new_pool (
    id             TEXT NOT NULL PRIMARY KEY,
    project_id     TEXT NOT NULL REFERENCES project (id),
    workspace_id   TEXT NOT NULL DEFAULT '0',
    display_name   TEXT NOT NULL,
    partition      TEXT NOT NULL,
    phase          TEXT NOT NULL,
    message        TEXT NOT NULL DEFAULT '',
    scopes         TEXT NOT NULL,              -- comma separated
    node_count     INTEGER NOT NULL,           -- what there is, as are the next four
    cpu_millis     INTEGER NOT NULL,
    memory_mib     INTEGER NOT NULL,
    gpu_count      INTEGER NOT NULL,
    npu_count      INTEGER NOT NULL,
    labels         TEXT NOT NULL DEFAULT '{}', -- JSON: what the client set
    annotations    TEXT NOT NULL DEFAULT '{}', -- likewise
    settings       TEXT NOT NULL DEFAULT '{}', -- JSON: what else the client set in `spec`
    declared       TEXT,                       -- the inventory's last word on it; NULL: it has none
    created_at_ms  INTEGER NOT NULL,
    phase_since_ms INTEGER NOT NULL,
    is_deleted     INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1)),
    wish           INTEGER NOT NULL DEFAULT 0, -- goes up with each change that a user asks for
    revision       INTEGER NOT NULL DEFAULT 0
);
INSERT INTO new_pool (
    id, project_id, display_name, partition, phase, scopes, node_count, cpu_millis, memory_mib,
    gpu_count, npu_count, created_at_ms, phase_since_ms)
SELECT id, project_id, display_name, partition, phase, scopes, node_count, cpu_millis, memory_mib,
       gpu_count, npu_count, created_at_ms, created_at_ms
  FROM pool;

-- What a pool should have: one line a flavor. The node pools of the API are these lines.
CREATE TABLE pool_line (
    pool_id     TEXT NOT NULL REFERENCES new_pool (id),
    name        TEXT NOT NULL,
    position    INTEGER NOT NULL,
    flavor_code TEXT NOT NULL,
    node_count  INTEGER NOT NULL CHECK (node_count >= 0),
    settings    TEXT NOT NULL DEFAULT '{}',    -- JSON: what else the client set in the line
    PRIMARY KEY (pool_id, name)
) WITHOUT ROWID;
INSERT INTO pool_line (pool_id, name, position, flavor_code, node_count)
SELECT id, 'default', 0, flavor_code, node_count
  FROM pool
 WHERE flavor_code <> '';

CREATE TABLE new_node (
    name           TEXT NOT NULL PRIMARY KEY,
    partition      TEXT NOT NULL,
    line_name      TEXT NOT NULL DEFAULT '',   -- '': a node of the public partition
    flavor_code    TEXT NOT NULL DEFAULT '',
    host_name      TEXT NOT NULL,
    cpu_millis     INTEGER NOT NULL,
    memory_mib     INTEGER NOT NULL,
    card_kind      TEXT CHECK (card_kind IN ('gpu', 'npu')),
    cards          TEXT NOT NULL,              -- JSON list of device numbers
    phase          TEXT NOT NULL DEFAULT 'Available'
                   CHECK (phase IN ('Creating', 'Available', 'Abnormal', 'Deleting')),
    message        TEXT NOT NULL DEFAULT '',
    is_locked      INTEGER NOT NULL DEFAULT 0 CHECK (is_locked IN (0, 1)),
    is_spare       INTEGER NOT NULL DEFAULT 0 CHECK (is_spare IN (0, 1)),
    tags           TEXT NOT NULL DEFAULT '{}', -- JSON
    created_at_ms  INTEGER NOT NULL DEFAULT 0,
    phase_since_ms INTEGER NOT NULL DEFAULT 0
);
-- Whose share of which host a pool's node is, the next start says: see `adopt_nodes`.
INSERT INTO new_node (
    name, partition, line_name, flavor_code, host_name, cpu_millis, memory_mib, card_kind, cards)
SELECT n.name, n.partition, CASE WHEN n.partition = 'public' THEN '' ELSE 'default' END,
       coalesce(p.flavor_code, ''), CASE WHEN n.partition = 'public' THEN n.name ELSE '' END,
       n.cpu_millis, n.memory_mib, n.card_kind, n.cards
  FROM node AS n
  LEFT JOIN pool AS p
    ON p.id = n.partition;
DROP TABLE node;
ALTER TABLE new_node RENAME TO node;
CREATE INDEX node_by_partition ON node (partition, name);

DROP TABLE pool;
ALTER TABLE new_pool RENAME TO pool;
CREATE UNIQUE INDEX pool_name_taken ON pool (project_id, display_name) WHERE is_deleted = 0;
-- The reconciler looks at these: everything that is or will be there.
CREATE INDEX pool_present ON pool (created_at_ms, id) WHERE is_deleted = 0;

-- A card is in use by one workload at a time, whatever node of its host it belongs to.
CREATE TABLE new_card_hold (
    host_name   TEXT NOT NULL,
    card        INTEGER NOT NULL,
    workload_id INTEGER NOT NULL REFERENCES workload (id),
    PRIMARY KEY (host_name, card)
);
-- The name of the host is written at the next start: see `adopt_card_holds`.
INSERT INTO new_card_hold (host_name, card, workload_id)
SELECT node_name, card, workload_id
  FROM card_hold;
DROP TABLE card_hold;
ALTER TABLE new_card_hold RENAME TO card_hold;
CREATE INDEX card_hold_by_workload ON card_hold (workload_id);

-- What happened to a pool and its nodes, numbered 1, 2, 3 ... within the pool.
CREATE TABLE pool_event (
    pool_id   TEXT NOT NULL REFERENCES pool (id),
    number    INTEGER NOT NULL,
    node_name TEXT,
    at_ms     INTEGER NOT NULL,
    type      TEXT NOT NULL CHECK (type IN ('Normal', 'Warning')),
    reason    TEXT NOT NULL,
    message   TEXT NOT NULL,
    actor     TEXT NOT NULL,
    PRIMARY KEY (pool_id, number)
) WITHOUT ROWID;

-- ---------------------------------------------------------------- what runs

ALTER TABLE workload ADD COLUMN time_limit_ms INTEGER;      -- NULL: it may run for ever
ALTER TABLE workload ADD COLUMN retries_left INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workload ADD COLUMN attempt_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workload ADD COLUMN attempt_started_at_ms INTEGER;
UPDATE workload
   SET attempt_count = 1, attempt_started_at_ms = started_at_ms
 WHERE attempt_id IS NOT NULL;

-- Attempts that failed and were tried again. The latest one stands in the workload itself.
CREATE TABLE past_attempt (
    workload_id   INTEGER NOT NULL REFERENCES workload (id),
    number        INTEGER NOT NULL,    -- 1, 2, 3 ... within the workload
    attempt_id    TEXT NOT NULL,
    engine_ref    TEXT,
    placements    TEXT NOT NULL,
    started_at_ms INTEGER,             -- NULL: it never came up
    ended_at_ms   INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    message       TEXT NOT NULL,
    PRIMARY KEY (workload_id, number)
) WITHOUT ROWID;

-- Numbered 1, 2, 3 ... within the workload.
ALTER TABLE event ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE event
   SET number = (SELECT count(*)
                   FROM event AS e
                  WHERE e.workload_id = event.workload_id
                    AND e.seq <= event.seq);
DROP INDEX event_by_workload;
CREATE UNIQUE INDEX event_by_workload ON event (workload_id, number);

-- ---------------------------------------------------------------- who may do what

-- Beside the role: whether it may ask for the highest priority.
ALTER TABLE membership ADD COLUMN may_prioritise INTEGER NOT NULL DEFAULT 0
    CHECK (may_prioritise IN (0, 1));

ALTER TABLE workspace ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN auth_type TEXT NOT NULL DEFAULT 'PUBLIC'
    CHECK (auth_type IN ('PUBLIC', 'PRIVATE', 'INTERNAL'));
ALTER TABLE workspace ADD COLUMN owner_id TEXT NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN owner_name TEXT NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN enterprise_project_id TEXT NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN updated_at_ms INTEGER NOT NULL DEFAULT 0;
UPDATE workspace SET updated_at_ms = created_at_ms;
CREATE UNIQUE INDEX workspace_name_taken ON workspace (project_id, name);

CREATE TABLE workspace_grant (      -- who may enter one that is INTERNAL
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    position     INTEGER NOT NULL,
    user_id      TEXT NOT NULL DEFAULT '',
    user_name    TEXT NOT NULL DEFAULT '',
    user_type    TEXT NOT NULL DEFAULT 'IAM',
    PRIMARY KEY (project_id, workspace_id, position),
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
) WITHOUT ROWID;

CREATE TABLE workspace_role (       -- in place of the role in the project
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    member_id    TEXT NOT NULL REFERENCES member (id),
    role         TEXT NOT NULL,
    PRIMARY KEY (project_id, workspace_id, member_id),
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
) WITHOUT ROWID;

CREATE TABLE workspace_quota (      -- no row: unlimited
    project_id    TEXT NOT NULL,
    workspace_id  TEXT NOT NULL,
    resource      TEXT NOT NULL,
    quota         INTEGER NOT NULL CHECK (quota >= -1),
    updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, workspace_id, resource),
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
) WITHOUT ROWID;

-- What the workloads of a workspace take of its quotas: from the insert until nothing of them is
-- left to run. A count like the tally: written last in each transaction, and recounted.
CREATE TABLE workspace_use (
    project_id     TEXT NOT NULL,
    workspace_id   TEXT NOT NULL,
    type           TEXT NOT NULL,
    workload_count INTEGER NOT NULL CHECK (workload_count >= 0),
    cpu_millis     INTEGER NOT NULL CHECK (cpu_millis >= 0),
    memory_mib     INTEGER NOT NULL CHECK (memory_mib >= 0),
    gpu_count      INTEGER NOT NULL CHECK (gpu_count >= 0),
    npu_count      INTEGER NOT NULL CHECK (npu_count >= 0),
    PRIMARY KEY (project_id, workspace_id, type)
) WITHOUT ROWID;
INSERT INTO workspace_use
SELECT project_id, workspace_id, type, count(*), sum(task_count * task_cpu_millis),
       sum(task_count * task_memory_mib), sum(task_count * task_gpu_count),
       sum(task_count * task_npu_count)
  FROM workload
 WHERE phase IN ('Creating', 'Queued', 'Starting', 'Running', 'Terminating', 'Lost')
    OR is_holding = 1
 GROUP BY project_id, workspace_id, type;

CREATE TABLE temporary_key (        -- as access_key, for a while, and with a token beside it
    access        TEXT NOT NULL PRIMARY KEY,
    secret_sealed BLOB NOT NULL,
    token_digest  BLOB NOT NULL,    -- SHA-256 of the security token
    member_id     TEXT NOT NULL REFERENCES member (id),
    project_id    TEXT NOT NULL REFERENCES project (id),
    expires_at_ms INTEGER NOT NULL
);
CREATE INDEX temporary_key_by_expiry ON temporary_key (expires_at_ms);

CREATE TABLE service_grant (        -- what the API calls an authorization: kept and shown
    project_id    TEXT NOT NULL REFERENCES project (id),
    user_id       TEXT NOT NULL,
    user_name     TEXT NOT NULL DEFAULT '',
    user_type     TEXT NOT NULL DEFAULT 'iam',
    type          TEXT NOT NULL,
    content       TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, user_id)
) WITHOUT ROWID;

-- ---------------------------------------------------------------- what is kept to be run

CREATE TABLE algorithm (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    uid           TEXT NOT NULL UNIQUE,
    project_id    TEXT NOT NULL REFERENCES project (id),
    workspace_id  TEXT NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL DEFAULT '',
    creator_name  TEXT NOT NULL,
    recipe        TEXT NOT NULL,              -- JSON, as domain.algorithm.Recipe
    requirements  TEXT NOT NULL DEFAULT '[]', -- JSON, of the flavors and workers it runs on
    auto_search   TEXT NOT NULL DEFAULT 'null', -- JSON
    code_bytes    INTEGER NOT NULL DEFAULT 0, -- when it was last changed
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);
CREATE UNIQUE INDEX algorithm_name_taken ON algorithm (project_id, workspace_id, name);
