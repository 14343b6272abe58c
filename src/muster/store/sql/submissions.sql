-- name: newest_times
-- Ids and times are handed out together, so the newest rows have the greatest times.
SELECT coalesce((SELECT created_at_ms FROM job ORDER BY id DESC LIMIT 1), 0),
       coalesce((SELECT created_at_ms FROM workload ORDER BY id DESC LIMIT 1), 0)

-- name: list_workspaces_of
-- Of these projects: one has few.
SELECT project_id, id
  FROM workspace
 WHERE project_id IN (SELECT value FROM json_each(:project_ids))

-- name: find_taken_names
SELECT name
  FROM job
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND name IN (SELECT value FROM json_each(:names))
   AND is_deleted = 0

-- name: insert_job
INSERT INTO job (
    id, project_id, workspace_id, name, description, creator_name, created_at_ms, version_count,
    next_version_number, latest_version_id, status, engine_type)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_version
INSERT INTO version (
    id, job_id, workload_id, project_id, workspace_id, pool_id, number, pre_version_id, job_name,
    description, flavor_code, gpu_count, npu_count, config, status, created_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_config
INSERT INTO version_config (workload_id, config)
VALUES (?, ?)

-- name: insert_first_event
INSERT INTO event (
    workload_id, number, at_ms, event, phase_before, phase_after, reason, message, actor)
VALUES (?, 1, ?, ?, ?, ?, '', '', ?)

-- name: show_newest_version
UPDATE job
   SET version_count = :version_count, next_version_number = :next_version_number,
       latest_version_id = :version_id, status = :status, started_at_ms = NULL, duration_ms = 0,
       engine_type = :engine_type
 WHERE id = :job_id
