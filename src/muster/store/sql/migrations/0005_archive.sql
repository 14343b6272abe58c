-- Jobs that ended long ago keep what lists and counts read; the rest of them is packed away.

-- What is bulky, in tables of its own: rows that go as a whole leave pages that are used again, which
-- rows that only get shorter do not. What an older muster has stored stays where it is, and is read
-- there.
CREATE TABLE workload_run (
    workload_id INTEGER NOT NULL PRIMARY KEY REFERENCES workload (id),
    run         TEXT NOT NULL     -- JSON, in place of workload.run
);
CREATE TABLE version_config (
    workload_id INTEGER NOT NULL PRIMARY KEY REFERENCES workload (id),
    config      TEXT NOT NULL     -- JSON, in place of version.config, which keeps what is searched
);

-- 1: its run, placements, config, events and past attempts stand in `archived`.
ALTER TABLE workload ADD COLUMN is_archived INTEGER NOT NULL DEFAULT 0
    CHECK (is_archived IN (0, 1));
-- The next ones to pack, oldest first; nothing that is packed or still runs is in it.
CREATE INDEX workload_to_archive ON workload (ended_at_ms)
    WHERE is_archived = 0 AND ended_at_ms IS NOT NULL;

CREATE TABLE archived (
    workload_id INTEGER NOT NULL PRIMARY KEY REFERENCES workload (id),
    body        BLOB NOT NULL     -- see store/archive.py
);

-- How many workloads, archived or not, were made from a snapshot of code. A count like the others.
CREATE TABLE snapshot_use (
    digest         TEXT NOT NULL PRIMARY KEY,
    workload_count INTEGER NOT NULL CHECK (workload_count >= 0)
) WITHOUT ROWID;
INSERT INTO snapshot_use (digest, workload_count)
SELECT json_extract(run, '$.code'), count(*)
  FROM workload
 WHERE json_extract(run, '$.code') IS NOT NULL
 GROUP BY json_extract(run, '$.code');
