-- Deep pages of lists that are sorted by a name, a description, a duration ...: counts by stretches of
-- each order, as `id_block` has them by blocks of ids. No write of a job waits for them: a row is
-- counted here some time after it has ended; see store/keyblocks.py.

-- Up to which id the rows of a list are counted, but for those of `key_unsettled`. Until all of that
-- is written, it is not ready.
CREATE TABLE key_mark (
    list         TEXT NOT NULL,  -- 'job' or 'version'
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    settled_id   INTEGER NOT NULL,
    is_ready     INTEGER NOT NULL CHECK (is_ready IN (0, 1)),
    PRIMARY KEY (list, project_id, workspace_id)
) WITHOUT ROWID;

-- Where the stretches of an order begin.
CREATE TABLE key_stretch (
    list         TEXT NOT NULL,
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    sort         TEXT NOT NULL,     -- the index that has the order
    number       INTEGER NOT NULL,
    low_key      TEXT NOT NULL,     -- JSON; null: the first has no bound
    low_id       INTEGER NOT NULL,
    PRIMARY KEY (list, project_id, workspace_id, sort, number)
) WITHOUT ROWID;

-- How many counted rows of each status, and of each pool, lie in a stretch.
CREATE TABLE key_block (
    list         TEXT NOT NULL,     -- 'job', 'version', or 'pooled': the versions of one pool
    sort         TEXT NOT NULL,
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    pool_id      TEXT NOT NULL,     -- '' but in 'pooled', where it is the public pool
    status       INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    count        INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (list, sort, project_id, workspace_id, pool_id, status, number)
) WITHOUT ROWID;

-- Rows up to the mark that are not counted: they had not ended, or have changed since.
CREATE TABLE key_unsettled (
    list         TEXT NOT NULL,
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    id           INTEGER NOT NULL,
    PRIMARY KEY (list, project_id, workspace_id, id)
) WITHOUT ROWID;

-- What is counted still, though it was deleted or has changed: as it was when it was counted.
CREATE TABLE key_gone (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    list          TEXT NOT NULL,
    project_id    TEXT NOT NULL,
    workspace_id  TEXT NOT NULL,
    pool_id       TEXT NOT NULL,
    status        INTEGER NOT NULL,
    id            INTEGER NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    duration_ms   INTEGER,
    created_at_ms INTEGER NOT NULL,
    version_count INTEGER NOT NULL,
    engine_type   INTEGER NOT NULL
);
CREATE INDEX key_gone_by_list ON key_gone (list, project_id, workspace_id, number);
