-- name: list_large_places
-- Where a list is so long that a deep page of it would take its time.
SELECT 'version' AS list, project_id, workspace_id
  FROM version_total
 GROUP BY project_id, workspace_id
HAVING sum(count) >= :rows_min
 UNION ALL
SELECT 'job' AS list, project_id, workspace_id
  FROM job_total
 GROUP BY project_id, workspace_id
HAVING sum(count) >= :rows_min

-- name: get_mark
SELECT settled_id, is_ready
  FROM key_mark
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: delete_mark
DELETE FROM key_mark
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: insert_mark_of_jobs
-- At the last one there is.
INSERT INTO key_mark (list, project_id, workspace_id, settled_id, is_ready)
SELECT 'job', :project_id, :workspace_id, coalesce(max(id), 0), 0
  FROM job INDEXED BY job_by_id
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0

-- name: insert_mark_of_versions
INSERT INTO key_mark (list, project_id, workspace_id, settled_id, is_ready)
SELECT 'version', :project_id, :workspace_id, coalesce(max(id), 0), 0
  FROM version INDEXED BY version_by_id
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0

-- name: insert_live_jobs
INSERT INTO key_unsettled (list, project_id, workspace_id, id)
SELECT 'job', project_id, workspace_id, id
  FROM job INDEXED BY job_by_status
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND status IN (SELECT value FROM json_each(:live))

-- name: insert_live_versions
INSERT INTO key_unsettled (list, project_id, workspace_id, id)
SELECT 'version', project_id, workspace_id, id
  FROM version INDEXED BY version_by_status
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND status IN (SELECT value FROM json_each(:live))

-- name: make_ready
UPDATE key_mark
   SET is_ready = 1
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: set_mark
UPDATE key_mark
   SET settled_id = :settled_id
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: list_marks
SELECT list, project_id, workspace_id
  FROM key_mark
 WHERE is_ready = 1

-- name: drop_stretches
DELETE FROM key_stretch
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id
   AND sort = :sort

-- name: drop_blocks
DELETE FROM key_block
 WHERE list IN (:list, :pooled)
   AND sort = :sort
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: drop_unsettled
DELETE FROM key_unsettled
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: drop_gone
DELETE FROM key_gone
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id

-- name: list_stretches
SELECT number, low_key, low_id
  FROM key_stretch
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id
   AND sort = :sort

-- name: insert_stretch
INSERT INTO key_stretch (list, project_id, workspace_id, sort, number, low_key, low_id)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: count_stretches
-- All that is counted in each of them.
SELECT number, sum(count)
  FROM key_block
 WHERE list = :list
   AND sort = :sort
   AND project_id = :project_id
   AND workspace_id = :workspace_id
 GROUP BY number

-- name: list_blocks
-- Of one order of a list; 'pooled' goes with 'version'.
SELECT list, pool_id, status, number, count
  FROM key_block
 WHERE list IN (:list, :pooled)
   AND sort = :sort
   AND project_id = :project_id
   AND workspace_id = :workspace_id
   AND count > 0

-- name: list_next_jobs
SELECT id, status, '' AS pool_id, name, description, duration_ms, created_at_ms, version_count,
       engine_type
  FROM job INDEXED BY job_by_id
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND id > :settled_id
 ORDER BY id
 LIMIT :limit

-- name: list_next_versions
SELECT id, status, pool_id, job_name, description, duration_ms, created_at_ms, 0, 0
  FROM version INDEXED BY version_by_id
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND id > :settled_id
 ORDER BY id
 LIMIT :limit

-- name: find_ended_jobs
-- Of these, what is there and has ended.
SELECT id, status, '' AS pool_id, name, description, duration_ms, created_at_ms, version_count,
       engine_type
  FROM job
 WHERE id IN (SELECT value FROM json_each(:ids))
   AND is_deleted = 0
   AND status NOT IN (SELECT value FROM json_each(:live))

-- name: find_ended_versions
SELECT id, status, pool_id, job_name, description, duration_ms, created_at_ms, 0, 0
  FROM version
 WHERE id IN (SELECT value FROM json_each(:ids))
   AND is_deleted = 0
   AND status NOT IN (SELECT value FROM json_each(:live))

-- name: insert_unsettled
INSERT INTO key_unsettled (list, project_id, workspace_id, id)
VALUES (?, ?, ?, ?)

-- name: list_ended_jobs
-- Of those before the mark that are not counted.
SELECT t.id, t.status, '' AS pool_id, t.name, t.description, t.duration_ms, t.created_at_ms,
       t.version_count, t.engine_type
  FROM key_unsettled AS u
 CROSS JOIN job AS t
    ON t.id = u.id
 WHERE u.list = 'job'
   AND u.project_id = :project_id
   AND u.workspace_id = :workspace_id
   AND t.is_deleted = 0
   AND t.status NOT IN (SELECT value FROM json_each(:live))

-- name: list_ended_versions
SELECT t.id, t.status, t.pool_id, t.job_name, t.description, t.duration_ms, t.created_at_ms, 0, 0
  FROM key_unsettled AS u
 CROSS JOIN version AS t
    ON t.id = u.id
 WHERE u.list = 'version'
   AND u.project_id = :project_id
   AND u.workspace_id = :workspace_id
   AND t.is_deleted = 0
   AND t.status NOT IN (SELECT value FROM json_each(:live))

-- name: list_unsettled_jobs
-- Those that may be counted by now, or are there no more.
SELECT u.id
  FROM key_unsettled AS u
  LEFT JOIN job AS t
    ON t.id = u.id
 WHERE u.list = 'job'
   AND u.project_id = :project_id
   AND u.workspace_id = :workspace_id
   AND (t.id IS NULL OR t.is_deleted = 1
        OR t.status NOT IN (SELECT value FROM json_each(:live)))
 LIMIT :limit

-- name: list_unsettled_versions
SELECT u.id
  FROM key_unsettled AS u
  LEFT JOIN version AS t
    ON t.id = u.id
 WHERE u.list = 'version'
   AND u.project_id = :project_id
   AND u.workspace_id = :workspace_id
   AND (t.id IS NULL OR t.is_deleted = 1
        OR t.status NOT IN (SELECT value FROM json_each(:live)))
 LIMIT :limit

-- name: delete_unsettled
DELETE FROM key_unsettled
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id
   AND id IN (SELECT value FROM json_each(:ids))

-- name: list_gone
SELECT number, id, status, pool_id, name, description, duration_ms, created_at_ms, version_count,
       engine_type
  FROM key_gone
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id
 ORDER BY number
 LIMIT :limit

-- name: delete_gone
DELETE FROM key_gone
 WHERE list = :list
   AND project_id = :project_id
   AND workspace_id = :workspace_id
   AND number <= :number

-- name: keep_gone_jobs
INSERT INTO key_gone (
    list, project_id, workspace_id, pool_id, status, id, name, description, duration_ms,
    created_at_ms, version_count, engine_type)
SELECT 'job', t.project_id, t.workspace_id, '', t.status, t.id, t.name, t.description,
       t.duration_ms, t.created_at_ms, t.version_count, t.engine_type
  FROM job AS t
  JOIN key_mark AS m
    ON m.list = 'job'
   AND m.project_id = t.project_id
   AND m.workspace_id = t.workspace_id
   AND m.settled_id >= t.id
 WHERE t.id IN (SELECT value FROM json_each(:ids))
   AND t.is_deleted = 0
   AND t.status NOT IN (SELECT value FROM json_each(:live))
   AND NOT EXISTS (SELECT 1
                     FROM key_unsettled AS u
                    WHERE u.list = 'job'
                      AND u.project_id = t.project_id
                      AND u.workspace_id = t.workspace_id
                      AND u.id = t.id)
RETURNING id, project_id, workspace_id

-- name: keep_gone_versions
INSERT INTO key_gone (
    list, project_id, workspace_id, pool_id, status, id, name, description, duration_ms,
    created_at_ms, version_count, engine_type)
SELECT 'version', t.project_id, t.workspace_id, t.pool_id, t.status, t.id, t.job_name,
       t.description, t.duration_ms, t.created_at_ms, 0, 0
  FROM version AS t
  JOIN key_mark AS m
    ON m.list = 'version'
   AND m.project_id = t.project_id
   AND m.workspace_id = t.workspace_id
   AND m.settled_id >= t.id
 WHERE t.id IN (SELECT value FROM json_each(:ids))
   AND t.is_deleted = 0
   AND t.status NOT IN (SELECT value FROM json_each(:live))
   AND NOT EXISTS (SELECT 1
                     FROM key_unsettled AS u
                    WHERE u.list = 'version'
                      AND u.project_id = t.project_id
                      AND u.workspace_id = t.workspace_id
                      AND u.id = t.id)
RETURNING id, project_id, workspace_id

-- name: list_versions_of_job
SELECT id
  FROM version
 WHERE job_id = :job_id
   AND is_deleted = 0
