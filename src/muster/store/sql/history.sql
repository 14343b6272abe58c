-- name: find_sources
-- Of these lines, those whose version is still there.
SELECT k.source
  FROM import_key AS k
  JOIN version AS v
    ON v.id = k.version_id
 WHERE k.project_id = :project_id
   AND k.source IN (SELECT value FROM json_each(:sources))
   AND v.is_deleted = 0

-- name: find_uids
SELECT uid, project_id, is_deleted
  FROM workload
 WHERE uid IN (SELECT value FROM json_each(:uids))

-- name: list_workspaces
SELECT id
  FROM workspace
 WHERE project_id = :project_id

-- name: list_pools
SELECT id, display_name, partition
  FROM pool
 WHERE project_id = :project_id
   AND is_deleted = 0

-- name: find_jobs
-- By (workspace, name): the list comes as JSON, and is what is walked.
SELECT j.workspace_id, j.name, j.id, j.status, j.next_version_number, i.source
  FROM json_each(:names) AS n
 CROSS JOIN job AS j
  LEFT JOIN imported_job AS i
    ON i.job_id = j.id
 WHERE j.project_id = :project_id
   AND j.workspace_id = json_extract(n.value, '$[0]')
   AND j.name = json_extract(n.value, '$[1]')
   AND j.is_deleted = 0

-- name: newest_version
SELECT created_at_ms
  FROM version
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
 ORDER BY id DESC
 LIMIT 1

-- name: newest_job
SELECT created_at_ms
  FROM job
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
 ORDER BY id DESC
 LIMIT 1

-- name: note_out_of_order
INSERT INTO out_of_order (project_id, workspace_id, list)
VALUES (:project_id, :workspace_id, :list)
    ON CONFLICT DO NOTHING

-- name: is_out_of_order
SELECT 1
  FROM out_of_order
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND list = :list

-- name: insert_job
INSERT INTO job (
    id, project_id, workspace_id, name, description, creator_name, created_at_ms, version_count,
    next_version_number, latest_version_id, status, started_at_ms, duration_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_imported_job
INSERT INTO imported_job (job_id, source)
VALUES (?, ?)

-- name: extend_job
UPDATE job
   SET version_count = version_count + ?, next_version_number = ?, latest_version_id = ?,
       status = ?, started_at_ms = ?, duration_ms = ?
 WHERE id = ?

-- name: insert_workload
-- What it held nobody knows but for its cards, and it holds nothing any more.
INSERT INTO workload (
    id, uid, project_id, workspace_id, pool_id, partition, type, name, flavor_code, task_count,
    task_cpu_millis, task_memory_mib, task_gpu_count, task_npu_count, priority, run, phase, reason,
    message, created_at_ms, phase_since_ms, started_at_ms, ended_at_ms)
VALUES (?, ?, ?, ?, ?, ?, 'train', ?, ?, ?, 0, 0, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_version
INSERT INTO version (
    id, job_id, workload_id, project_id, workspace_id, pool_id, number, job_name, description,
    flavor_code, gpu_count, npu_count, config, status, created_at_ms, started_at_ms, ended_at_ms,
    duration_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_event
-- The first thing, and the last, that happened to it here.
INSERT INTO event (
    workload_id, number, at_ms, event, phase_before, phase_after, reason, message, actor)
VALUES (?, 1, ?, ?, ?, ?, ?, '', ?)

-- name: insert_source
-- It may have come in before, and been deleted since.
INSERT INTO import_key (project_id, source, version_id)
VALUES (?, ?, ?)
    ON CONFLICT (project_id, source)
    DO UPDATE SET version_id = excluded.version_id

-- name: list_history
-- Every version that has ended, first to last; workspaces that are hidden are left out.
SELECT v.id, v.job_id, v.job_name, j.description, v.description, v.workspace_id, v.status,
       w.reason, w.message, v.created_at_ms, v.started_at_ms, v.ended_at_ms, v.pool_id,
       coalesce(p.display_name, ''), v.flavor_code, v.gpu_count, v.npu_count, w.task_count,
       j.creator_name, w.uid, v.number, j.created_at_ms
  FROM version AS v
  JOIN job AS j
    ON j.id = v.job_id
  JOIN workload AS w
    ON w.id = v.workload_id
  LEFT JOIN pool AS p
    ON p.id = v.pool_id
 WHERE v.project_id = :project_id
   AND v.is_deleted = 0
   AND v.ended_at_ms IS NOT NULL
   AND v.workspace_id NOT IN (SELECT value FROM json_each(:hidden))
 ORDER BY v.id

-- name: count_history
SELECT coalesce(sum(count), 0)
  FROM version_total
 WHERE project_id = :project_id
   AND status IN (SELECT value FROM json_each(:statuses))
   AND workspace_id NOT IN (SELECT value FROM json_each(:hidden))
