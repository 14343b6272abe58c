-- name: insert_workload
INSERT INTO workload (
    id, uid, project_id, workspace_id, pool_id, partition, type, name, flavor_code, task_count,
    task_cpu_millis, task_memory_mib, task_gpu_count, task_npu_count, priority, run, time_limit_ms,
    retries_left, phase, created_at_ms, phase_since_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, 'Creating', ?, ?)

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

-- name: move_workloads
-- Guarded one by one: touches no row that someone else has changed first. It tells those it moved.
UPDATE workload
   SET revision = m.column3, phase = m.column4, reason = m.column5, message = m.column6,
       phase_since_ms = m.column7, started_at_ms = m.column8, ended_at_ms = m.column9,
       attempt_started_at_ms = m.column10
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT),
        CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
        CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE workload.id = m.column1
   AND workload.revision = m.column2
RETURNING workload.id

-- name: move_and_hold_workloads
-- Likewise, with what they hold: apart, since that stands in indexes of its own.
UPDATE workload
   SET revision = m.column3, phase = m.column4, reason = m.column5, message = m.column6,
       phase_since_ms = m.column7, started_at_ms = m.column8, ended_at_ms = m.column9,
       attempt_started_at_ms = m.column10,
       is_holding = m.column11, attempt_id = m.column12, engine_ref = m.column13,
       placements = m.column14, attempt_count = m.column15, retries_left = m.column16
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT),
        CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
        CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT),
        CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE workload.id = m.column1
   AND workload.revision = m.column2
RETURNING workload.id

-- name: insert_past_attempt
INSERT INTO past_attempt (
    workload_id, number, attempt_id, engine_ref, placements, started_at_ms, ended_at_ms, reason,
    message)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

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

-- name: hold_card
-- The primary key refuses a card that somebody has.
INSERT INTO card_hold (host_name, card, workload_id)
VALUES (?, ?, ?)

-- name: list_held_cards
SELECT host_name, card
  FROM card_hold

-- name: list_cards_held_on
SELECT host_name, card, workload_id
  FROM card_hold
 WHERE host_name IN (SELECT value FROM json_each(:hosts))

-- name: list_nodes_at_work
-- Of these nodes, those that take work: one may have been locked or drained a moment ago.
SELECT name, partition, host_name
  FROM node
 WHERE name IN (SELECT value FROM json_each(:names))
   AND phase = 'Available'
   AND is_locked = 0
   AND is_spare = 0

-- name: release_cards
DELETE FROM card_hold
 WHERE workload_id IN (SELECT value FROM json_each(:workload_ids))

-- name: insert_event
-- Numbered within the workload, without a gap. Of many rows: no two of one workload.
INSERT INTO event (
    workload_id, number, at_ms, event, phase_before, phase_after, reason, message, actor)
SELECT m.column1,
       1 + coalesce((SELECT max(e.number) FROM event AS e WHERE e.workload_id = m.column1), 0),
       m.column2, m.column3, m.column4, m.column5, m.column6, m.column7, m.column8
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT),
        CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))) AS m

-- name: show_in_version
UPDATE version
   SET status = m.column2, started_at_ms = m.column3, ended_at_ms = m.column4,
       duration_ms = m.column5
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
        CAST(? AS BIGINT))) AS m
 WHERE version.workload_id = m.column1
RETURNING version.id, version.job_id, version.project_id, version.workspace_id, version.pool_id,
          version.is_deleted, version.workload_id

-- name: show_in_job
-- Where the version is its latest.
UPDATE job
   SET status = m.column3, started_at_ms = m.column4, duration_ms = m.column5
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
        CAST(? AS BIGINT))) AS m
 WHERE job.id = m.column1
   AND job.latest_version_id = m.column2
RETURNING job.id, job.latest_version_id, job.is_deleted

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
