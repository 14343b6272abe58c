-- name: insert_workload
INSERT INTO workload (
    uid, project_id, workspace_id, pool_id, partition, type, name, flavor_code, task_count,
    task_cpu_millis, task_memory_mib, task_gpu_count, task_npu_count, priority, run, time_limit_ms,
    retries_left, phase, created_at_ms, phase_since_ms)
VALUES (
    :uid, :project_id, :workspace_id, :pool_id, :partition, :type, :name, :flavor_code, :task_count,
    :cpu_millis, :memory_mib, :gpu_count, :npu_count, :priority, '', :time_limit_ms,
    :retries_left, 'Creating', :now_ms, :now_ms)
RETURNING id

-- name: insert_run
INSERT INTO workload_run (workload_id, run)
VALUES (:workload_id, :run)

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

-- name: list_deleted
SELECT id, attempt_id, engine_ref, attempt_count
  FROM workload
 WHERE is_deleted = 1
   AND is_holding = 0
   AND phase NOT IN ('Creating', 'Queued', 'Starting', 'Running', 'Terminating')
 ORDER BY id
 LIMIT :limit

-- name: get_run
-- '' where it is archived.
SELECT coalesce(r.run, w.run)
  FROM workload AS w
  LEFT JOIN workload_run AS r
    ON r.workload_id = w.id
 WHERE w.id = :workload_id

-- name: move_workload
-- One guarded step: touches no row when someone else moved the workload first.
UPDATE workload
   SET phase = :phase, reason = :reason, message = :message, phase_since_ms = :now_ms,
       started_at_ms = :started_at_ms, ended_at_ms = :ended_at_ms,
       attempt_started_at_ms = :attempt_started_at_ms, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision

-- name: hold_nodes
UPDATE workload
   SET is_holding = 1, attempt_id = :attempt_id, placements = :placements,
       attempt_count = attempt_count + 1, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision
   AND is_holding = 0

-- name: release_nodes
UPDATE workload
   SET is_holding = 0, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision
   AND is_holding = 1

-- name: insert_past_attempt
INSERT INTO past_attempt (
    workload_id, number, attempt_id, engine_ref, placements, started_at_ms, ended_at_ms, reason,
    message)
SELECT id, attempt_count, attempt_id, engine_ref, placements, :started_at_ms, :ended_at_ms,
       :reason, :message
  FROM workload
 WHERE id = :workload_id

-- name: end_attempt
-- The next one gets an id of its own; until then there is none.
UPDATE workload
   SET retries_left = retries_left - 1, attempt_id = NULL, engine_ref = NULL, placements = '[]',
       attempt_started_at_ms = NULL, revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision
   AND retries_left > 0
   AND is_holding = 0

-- name: list_past_attempts
-- Of some workloads, each first to last.
SELECT workload_id, number, attempt_id, engine_ref, placements, started_at_ms, ended_at_ms,
       reason, message
  FROM past_attempt
 WHERE workload_id IN (SELECT value FROM json_each(:workload_ids))
 ORDER BY workload_id, number

-- name: delete_past_attempts
DELETE FROM past_attempt
 WHERE workload_id = :workload_id

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
INSERT INTO card_hold (host_name, card, workload_id)
SELECT host_name, :card, :workload_id
  FROM node
 WHERE name = :node_name

-- name: list_held_cards
SELECT host_name, card
  FROM card_hold

-- name: count_nodes_at_work
-- Of these nodes, those that take work: one may have been locked or drained a moment ago.
SELECT count(*)
  FROM node
 WHERE name IN (SELECT value FROM json_each(:names))
   AND partition = :partition
   AND phase = 'Available'
   AND is_locked = 0
   AND is_spare = 0

-- name: release_cards
DELETE FROM card_hold
 WHERE workload_id = :workload_id

-- name: insert_event
-- Numbered within the workload, without a gap.
INSERT INTO event (
    workload_id, number, at_ms, event, phase_before, phase_after, reason, message, actor)
SELECT :workload_id, coalesce(max(number), 0) + 1, :now_ms, :event, :phase_before, :phase_after,
       :reason, :message, :actor
  FROM event
 WHERE workload_id = :workload_id

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

-- name: delete_run
DELETE FROM workload_run
 WHERE workload_id = :workload_id

-- name: delete_config
DELETE FROM version_config
 WHERE workload_id = :workload_id

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
RETURNING project_id, workspace_id, type, phase, is_holding, task_count, task_cpu_millis,
          task_memory_mib, task_gpu_count, task_npu_count

-- name: delete_empty_job
DELETE FROM job
 WHERE id = :job_id
   AND is_deleted = 1
   AND NOT EXISTS (SELECT 1 FROM version WHERE job_id = :job_id)

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

-- name: list_events
-- Everything that happened to one workload, first to last: it moves a bounded number of times.
SELECT at_ms, event, phase_before, phase_after, reason, message, actor, number
  FROM event
 WHERE workload_id = :workload_id
 ORDER BY number
 LIMIT :limit
