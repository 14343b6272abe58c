-- name: insert_workload
INSERT INTO workload (
    uid, project_id, workspace_id, pool_id, partition, type, name, flavor_code, task_count,
    task_cpu_millis, task_memory_mib, task_gpu_count, task_npu_count, priority, run, phase,
    created_at_ms, phase_since_ms)
VALUES (
    :uid, :project_id, :workspace_id, :pool_id, :partition, :type, :name, :flavor_code, :task_count,
    :cpu_millis, :memory_mib, :gpu_count, :npu_count, :priority, :run, 'Creating',
    :now_ms, :now_ms)
RETURNING id

-- name: latest_created_at
-- Ids and times are handed out together, so the newest row has the greatest time.
SELECT created_at_ms
  FROM workload
 ORDER BY id DESC
 LIMIT 1

-- name: get_workload
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision
  FROM workload
 WHERE id = :workload_id

-- name: list_active
-- Everything the reconciler has to look at, the queue aside: bounded by what the nodes hold.
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision
  FROM workload
 WHERE phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR is_holding = 1
 ORDER BY id
 LIMIT :limit

-- name: list_queue
-- The head of one partition's queue: priority first, then first come.
SELECT id, project_id, pool_id, partition, type, task_cpu_millis, task_memory_mib,
       task_gpu_count, task_npu_count, task_count, priority, phase, reason, message, is_deleted,
       is_holding, attempt_id, engine_ref, placements, created_at_ms, phase_since_ms,
       started_at_ms, ended_at_ms, revision
  FROM workload
 WHERE partition = :partition
   AND phase = 'Queued'
 ORDER BY priority DESC, id
 LIMIT :limit

-- name: list_deleted
SELECT id, attempt_id, engine_ref, phase
  FROM workload
 WHERE is_deleted = 1
   AND is_holding = 0
   AND phase NOT IN ('Creating', 'Queued', 'Starting', 'Running', 'Terminating')
 ORDER BY id
 LIMIT :limit

-- name: get_run
SELECT run
  FROM workload
 WHERE id = :workload_id

-- name: move_workload
-- One guarded step: touches no row when someone else moved the workload first.
UPDATE workload
   SET phase = :phase, reason = :reason, message = :message, phase_since_ms = :now_ms,
       started_at_ms = :started_at_ms, ended_at_ms = :ended_at_ms, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision

-- name: hold_nodes
UPDATE workload
   SET is_holding = 1, attempt_id = :attempt_id, placements = :placements,
       revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision
   AND is_holding = 0

-- name: release_nodes
UPDATE workload
   SET is_holding = 0, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision
   AND is_holding = 1

-- name: set_engine_ref
UPDATE workload
   SET engine_ref = :engine_ref, revision = revision + 1
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

-- name: hold_card
-- The primary key refuses a card that somebody has.
INSERT INTO card_hold (node_name, card, workload_id)
VALUES (:node_name, :card, :workload_id)

-- name: release_cards
DELETE FROM card_hold
 WHERE workload_id = :workload_id

-- name: insert_event
INSERT INTO event (
    workload_id, at_ms, event, phase_before, phase_after, reason, message, actor)
VALUES (:workload_id, :now_ms, :event, :phase_before, :phase_after, :reason, :message, :actor)

-- name: show_in_version
-- The version and, where it is the latest, its job show the status of the workload.
UPDATE version
   SET status = :status, started_at_ms = :started_at_ms, ended_at_ms = :ended_at_ms,
       duration_ms = :duration_ms
 WHERE workload_id = :workload_id
RETURNING id, job_id, project_id, workspace_id, pool_id, is_deleted

-- name: show_in_job
UPDATE job
   SET status = :status, started_at_ms = :started_at_ms, duration_ms = :duration_ms
 WHERE id = :job_id
   AND latest_version_id = :version_id
RETURNING is_deleted

-- name: delete_events
DELETE FROM event
 WHERE workload_id = :workload_id

-- name: delete_version
DELETE FROM version
 WHERE workload_id = :workload_id
RETURNING job_id

-- name: delete_workload
DELETE FROM workload
 WHERE id = :workload_id

-- name: delete_empty_job
DELETE FROM job
 WHERE id = :job_id
   AND is_deleted = 1
   AND NOT EXISTS (SELECT 1 FROM version WHERE job_id = :job_id)

-- name: list_pool_workloads
-- Filters that are not asked for are NULL. Newest first, or oldest first.
SELECT w.id, w.uid, w.pool_id, w.type, w.name, w.flavor_code, w.phase, w.reason, w.task_count,
       w.task_cpu_millis, w.task_memory_mib, w.task_gpu_count, w.task_npu_count, w.priority,
       w.created_at_ms, w.started_at_ms, w.ended_at_ms, w.phase_since_ms, w.placements,
       w.is_holding, w.partition
  FROM workload AS w
 WHERE w.project_id = :project_id
   AND w.pool_id = :pool_id
   AND w.is_deleted = 0
   AND (:types IS NULL OR w.type IN (SELECT value FROM json_each(:types)))
   AND (:phases IS NULL OR w.phase IN (SELECT value FROM json_each(:phases)))
   AND (:host IS NULL OR EXISTS (
           SELECT 1 FROM json_each(w.placements) AS p
            WHERE w.is_holding = 1
              AND json_extract(p.value, '$.node_name') IN (SELECT value FROM json_each(:host))))
 ORDER BY w.id * :direction
 LIMIT :limit
OFFSET :offset

-- name: count_pool_workloads
SELECT count(*)
  FROM workload AS w
 WHERE w.project_id = :project_id
   AND w.pool_id = :pool_id
   AND w.is_deleted = 0
   AND (:types IS NULL OR w.type IN (SELECT value FROM json_each(:types)))
   AND (:phases IS NULL OR w.phase IN (SELECT value FROM json_each(:phases)))
   AND (:host IS NULL OR EXISTS (
           SELECT 1 FROM json_each(w.placements) AS p
            WHERE w.is_holding = 1
              AND json_extract(p.value, '$.node_name') IN (SELECT value FROM json_each(:host))))

-- name: queue_order
-- The whole queue of a partition, first to last.
SELECT id
  FROM workload
 WHERE partition = :partition
   AND phase = 'Queued'
 ORDER BY priority DESC, id

-- name: list_events
-- Everything that happened to one workload, first to last: it moves a bounded number of times.
SELECT at_ms, event, phase_before, phase_after, reason, message, actor
  FROM event
 WHERE workload_id = :workload_id
 ORDER BY seq
 LIMIT :limit
