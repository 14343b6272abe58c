-- Lists that cost the same at 10 and at 10,000,000 rows: one index a sort key, and counts by blocks
-- of ids, so that a page is found at any depth without walking there.

-- ---------------------------------------------------------------- one index a sort key

-- Where a status stands behind the key, a filter is answered by the index alone. The other keys are
-- asked for too seldom to be written again at each change of a status.
CREATE INDEX job_by_name ON job (project_id, workspace_id, name, id, status)
    WHERE is_deleted = 0;
CREATE INDEX job_by_description ON job (project_id, workspace_id, description, id)
    WHERE is_deleted = 0;
CREATE INDEX job_by_version_count ON job (project_id, workspace_id, version_count, id)
    WHERE is_deleted = 0;
CREATE INDEX job_by_engine_type ON job (project_id, workspace_id, engine_type, id)
    WHERE is_deleted = 0;
CREATE INDEX version_by_name ON version (
    project_id, workspace_id, job_name, id, status, pool_id) WHERE is_deleted = 0;
CREATE INDEX version_by_description ON version (project_id, workspace_id, description, id)
    WHERE is_deleted = 0;

-- The duration of what runs changes by itself: those are sorted by their start, and are few.
CREATE INDEX job_by_duration ON job (project_id, workspace_id, duration_ms, id, status)
    WHERE is_deleted = 0 AND duration_ms IS NOT NULL;
CREATE INDEX job_running ON job (project_id, workspace_id, started_at_ms, id, status)
    WHERE is_deleted = 0 AND duration_ms IS NULL;
CREATE INDEX version_by_duration ON version (
    project_id, workspace_id, duration_ms, id, status, pool_id)
    WHERE is_deleted = 0 AND duration_ms IS NOT NULL;
CREATE INDEX version_running ON version (
    project_id, workspace_id, started_at_ms, id, status, pool_id)
    WHERE is_deleted = 0 AND duration_ms IS NULL;

-- The workloads of a pool, by type and state, and those that are on its nodes.
CREATE INDEX workload_by_phase ON workload (project_id, pool_id, type, phase, id)
    WHERE is_deleted = 0;
CREATE INDEX workload_holding ON workload (project_id, pool_id, id)
    WHERE is_deleted = 0 AND is_holding = 1;

-- ---------------------------------------------------------------- counts by blocks of ids

-- How many rows of each status lie in each block of 16,384 ids: a count like the others.
CREATE TABLE id_block (
    list         TEXT NOT NULL,  -- 'job', 'version', or 'pooled': the versions of one pool
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    pool_id      TEXT NOT NULL,  -- '' but in 'pooled', where it is the public pool
    status       INTEGER NOT NULL,
    block        INTEGER NOT NULL,
    count        INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (list, project_id, workspace_id, pool_id, status, block)
) WITHOUT ROWID;
INSERT INTO id_block
SELECT 'job', project_id, workspace_id, '', status, id >> 14, count(*)
  FROM job
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, status, id >> 14;
INSERT INTO id_block
SELECT 'version', project_id, workspace_id, '', status, id >> 14, count(*)
  FROM version
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, status, id >> 14;
INSERT INTO id_block
SELECT 'pooled', project_id, workspace_id, pool_id, status, id >> 14, count(*)
  FROM version
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, pool_id, status, id >> 14;

-- ---------------------------------------------------------------- parts of names

-- Where three characters in a row stand in which name. Names never change, and are kept in small
-- letters. It knows no row but by its id: what it finds is looked up in `job`.
CREATE VIRTUAL TABLE job_search USING fts5 (
    name, content = '', tokenize = 'trigram case_sensitive 1');
-- The greatest id that it knows. It learns 256 jobs at a time: that costs a tenth of one by one.
CREATE TABLE job_search_mark (id INTEGER NOT NULL);
INSERT INTO job_search (rowid, name)
SELECT id, lower(name)
  FROM job;
INSERT INTO job_search_mark (id)
SELECT coalesce(max(id), 0)
  FROM job;
CREATE TRIGGER job_searchable AFTER INSERT ON job
    WHEN new.id >= (SELECT id FROM job_search_mark) + 256
BEGIN
    INSERT INTO job_search (rowid, name)
    SELECT id, lower(name)
      FROM job
     WHERE id > (SELECT id FROM job_search_mark)
       AND id <= new.id;
    UPDATE job_search_mark SET id = new.id;
END;
CREATE TRIGGER job_not_searchable AFTER DELETE ON job
    WHEN old.id <= (SELECT id FROM job_search_mark)
BEGIN
    INSERT INTO job_search (job_search, rowid, name) VALUES ('delete', old.id, lower(old.name));
END;
