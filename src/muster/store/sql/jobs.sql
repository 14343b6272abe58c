-- name: workspace_exists
SELECT 1
  FROM workspace
 WHERE project_id = :project_id
   AND id = :workspace_id

-- name: count_jobs_in
-- Jobs whose latest version stands in one of the given statuses, over all workspaces.
SELECT coalesce(sum(count), 0)
  FROM job_total
 WHERE project_id = :project_id
   AND status IN (SELECT value FROM json_each(:statuses))

-- name: find_job_by_name
SELECT id
  FROM job
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND name = :name
   AND is_deleted = 0

-- name: get_job
SELECT id, project_id, workspace_id, name, description, created_at_ms, version_count,
       next_version_number, latest_version_id, status
  FROM job
 WHERE id = :job_id
   AND project_id = :project_id
   AND is_deleted = 0

-- name: describe_job
UPDATE job
   SET description = :description
 WHERE id = :job_id
   AND project_id = :project_id
   AND is_deleted = 0

-- name: describe_versions
UPDATE version
   SET description = :description
 WHERE job_id = :job_id

-- name: list_job_versions
SELECT v.id, v.number, v.pre_version_id, v.status, v.created_at_ms, v.started_at_ms,
       v.duration_ms, v.pool_id, v.flavor_code, coalesce(c.config, v.config), w.uid, w.message, w.id,
       w.task_cpu_millis, w.task_memory_mib, w.task_gpu_count, w.task_npu_count, a.body
  FROM version AS v
  JOIN workload AS w
    ON w.id = v.workload_id
  LEFT JOIN version_config AS c
    ON c.workload_id = w.id
  LEFT JOIN archived AS a
    ON a.workload_id = w.id
 WHERE v.job_id = :job_id
   AND v.is_deleted = 0
 ORDER BY v.number DESC
 LIMIT :limit
OFFSET :offset

-- name: get_version
SELECT v.id, v.number, v.pre_version_id, v.status, v.created_at_ms, v.started_at_ms,
       v.duration_ms, v.pool_id, v.flavor_code, coalesce(c.config, v.config), w.uid, w.message, w.id,
       w.task_cpu_millis, w.task_memory_mib, w.task_gpu_count, w.task_npu_count, a.body
  FROM version AS v
  JOIN workload AS w
    ON w.id = v.workload_id
  LEFT JOIN version_config AS c
    ON c.workload_id = w.id
  LEFT JOIN archived AS a
    ON a.workload_id = w.id
 WHERE v.id = :version_id
   AND v.job_id = :job_id
   AND v.project_id = :project_id
   AND v.is_deleted = 0

-- name: list_version_workloads
SELECT workload_id
  FROM version
 WHERE job_id = :job_id
   AND is_deleted = 0

-- name: hide_version
UPDATE version
   SET is_deleted = 1
 WHERE id = :version_id
   AND is_deleted = 0
RETURNING project_id, workspace_id, pool_id, status

-- name: find_latest_version
SELECT v.id, v.status, v.started_at_ms, v.duration_ms
  FROM version AS v
 WHERE v.job_id = :job_id
   AND v.is_deleted = 0
 ORDER BY v.number DESC
 LIMIT 1

-- name: show_latest_version
UPDATE job
   SET version_count = version_count - 1, latest_version_id = :version_id, status = :status,
       started_at_ms = :started_at_ms, duration_ms = :duration_ms
 WHERE id = :job_id

-- name: hide_job
UPDATE job
   SET is_deleted = 1
 WHERE id = :job_id
   AND is_deleted = 0

-- name: hide_versions
UPDATE version
   SET is_deleted = 1
 WHERE job_id = :job_id
   AND is_deleted = 0
RETURNING project_id, workspace_id, pool_id, status, id

-- name: drop_job_without_versions
DELETE FROM job
 WHERE id = :job_id
   AND NOT EXISTS (SELECT 1 FROM version WHERE job_id = :job_id)

-- name: insert_config
INSERT INTO job_config (project_id, name, description, config, created_at_ms)
VALUES (:project_id, :name, :description, :config, :now_ms)

-- name: get_config
SELECT name, description, config, created_at_ms
  FROM job_config
 WHERE project_id = :project_id
   AND name = :name

-- name: update_config
UPDATE job_config
   SET description = :description, config = :config
 WHERE project_id = :project_id
   AND name = :name

-- name: delete_config
DELETE FROM job_config
 WHERE project_id = :project_id
   AND name = :name
