-- name: list_deleted
SELECT id, attempt_id, engine_ref, attempt_count
  FROM workload
 WHERE is_deleted = 1
   AND is_holding = 0
   AND phase NOT IN ('Creating', 'Queued', 'Starting', 'Running', 'Terminating')
 ORDER BY id
 LIMIT :limit

-- name: delete_version
DELETE FROM version
 WHERE workload_id = :workload_id
RETURNING job_id

-- name: delete_workload
DELETE FROM workload
 WHERE id = :workload_id
RETURNING project_id, workspace_id, type, phase, is_holding, task_count, task_cpu_millis,
          task_memory_mib, task_gpu_count, task_npu_count

-- name: delete_empty_job
DELETE FROM job
 WHERE id = :job_id
   AND is_deleted = 1
   AND NOT EXISTS (SELECT 1 FROM version WHERE job_id = :job_id)
