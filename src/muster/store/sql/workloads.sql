-- name: insert_workload
INSERT INTO workload (
    id, uid, project_id, workspace_id, pool_id, partition, type, name, flavor_code, task_count,
    task_cpu_millis, task_memory_mib, task_gpu_count, task_npu_count, priority, run, time_limit_ms,
    retries_left, phase, created_at_ms, phase_since_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?)

-- name: insert_run
INSERT INTO workload_run (workload_id, run)
VALUES (?, ?)

-- name: newest_create_time
-- Ids and times are handed out together: the newest row has the greatest time.
SELECT coalesce((SELECT created_at_ms FROM workload ORDER BY id DESC LIMIT 1), 0)

-- name: get_workload
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision, workspace_id, time_limit_ms, retries_left,
       attempt_count, attempt_started_at_ms
  FROM workload
 WHERE id = :workload_id

-- name: list_active
-- Everything the reconciler has to look at, the queue aside: bounded by what the nodes hold.
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision, workspace_id, time_limit_ms, retries_left,
       attempt_count, attempt_started_at_ms
  FROM workload
 WHERE phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR is_holding = 1
 ORDER BY id
 LIMIT :limit

-- name: list_active_revisions
-- Which rows `list_active` has, and whether they are still as they were: to see that takes a
-- twentieth of what it takes to read them, and most of ten thousand rest in most passes.
SELECT id, revision
  FROM workload
 WHERE phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR is_holding = 1
 ORDER BY id
 LIMIT :limit

-- name: list_workloads
-- Some by their ids.
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision, workspace_id, time_limit_ms, retries_left,
       attempt_count, attempt_started_at_ms
  FROM workload
 WHERE id IN (SELECT value FROM json_each(:workload_ids))

-- name: list_queue
-- The head of one partition's queue: priority first, then first come.
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision, workspace_id, time_limit_ms, retries_left,
       attempt_count, attempt_started_at_ms
  FROM workload
 WHERE partition = :partition
   AND phase = 'Queued'
 ORDER BY priority DESC, id
 LIMIT :limit

-- name: list_queue_revisions
-- As `list_active_revisions`: the head of a queue that has to wait stays as it is.
SELECT id, revision
  FROM workload
 WHERE partition = :partition
   AND phase = 'Queued'
 ORDER BY priority DESC, id
 LIMIT :limit

-- name: get_run
-- '' where it is archived.
SELECT coalesce(r.run, w.run)
  FROM workload AS w
  LEFT JOIN workload_run AS r
    ON r.workload_id = w.id
 WHERE w.id = :workload_id

-- name: set_engine_ref
UPDATE workload
   SET engine_ref = :engine_ref, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision

-- name: set_message
UPDATE workload
   SET message = :message, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision

-- name: set_priority
UPDATE workload
   SET priority = :priority, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision

-- name: mark_deleted
UPDATE workload
   SET is_deleted = 1, revision = revision + 1
 WHERE id = :workload_id
   AND is_deleted = 0

-- name: list_held_cards
SELECT host_name, card
  FROM card_hold

-- name: queue_order
-- The whole queue of a partition, first to last.
SELECT id
  FROM workload
 WHERE partition = :partition
   AND phase = 'Queued'
 ORDER BY priority DESC, id

-- name: count_ahead
-- Whoever stands before one in its partition's queue: read from the index of the queue alone.
SELECT count(*)
  FROM workload
 WHERE partition = :partition
   AND phase = 'Queued'
   AND (priority > :priority OR (priority = :priority AND id < :workload_id))

-- name: name_workloads
-- Of some workloads, what a project may be shown: its own.
SELECT id, uid, name, workspace_id
  FROM workload
 WHERE id IN (SELECT value FROM json_each(:workload_ids))
   AND project_id = :project_id
   AND is_deleted = 0
