-- name: list_due
-- The oldest that have ended and are not packed yet, walked along an index that holds no others.
SELECT w.id, w.revision, w.attempt_id, coalesce(r.run, w.run), w.placements,
       coalesce(c.config, v.config)
  FROM workload AS w INDEXED BY workload_to_archive
  LEFT JOIN version AS v
    ON v.workload_id = w.id
  LEFT JOIN workload_run AS r
    ON r.workload_id = w.id
  LEFT JOIN version_config AS c
    ON c.workload_id = w.id
 WHERE w.is_archived = 0
   AND w.ended_at_ms < :ended_before_ms
   AND w.is_deleted = 0
   AND w.is_holding = 0
 ORDER BY w.ended_at_ms
 LIMIT :limit

-- name: list_events
SELECT workload_id, at_ms, event, phase_before, phase_after, reason, message, actor, number
  FROM event
 WHERE workload_id IN (SELECT value FROM json_each(:workload_ids))
 ORDER BY workload_id, number

-- name: list_past_attempts
SELECT workload_id, number, attempt_id, engine_ref, placements, started_at_ms, ended_at_ms,
       reason, message
  FROM past_attempt
 WHERE workload_id IN (SELECT value FROM json_each(:workload_ids))
 ORDER BY workload_id, number

-- name: mark_archived
-- Touches no row that was changed, deleted or packed since it was read.
UPDATE workload
   SET is_archived = 1, run = '', placements = '[]', revision = revision + 1
 WHERE id = :workload_id
   AND revision = :revision
   AND is_archived = 0
   AND is_deleted = 0

-- name: insert_archived
INSERT INTO archived (workload_id, body)
VALUES (:workload_id, :body)

-- name: shorten_config
-- It is short already but where an older muster has stored it.
UPDATE version
   SET config = :config
 WHERE workload_id = :workload_id
   AND config <> :config

-- name: delete_run
DELETE FROM workload_run
 WHERE workload_id = :workload_id

-- name: delete_config
DELETE FROM version_config
 WHERE workload_id = :workload_id

-- name: delete_events
DELETE FROM event
 WHERE workload_id = :workload_id

-- name: delete_past_attempts
DELETE FROM past_attempt
 WHERE workload_id = :workload_id

-- name: find_archived
SELECT workload_id, body
  FROM archived
 WHERE workload_id IN (SELECT value FROM json_each(:workload_ids))

-- name: delete_archived
DELETE FROM archived
 WHERE workload_id = :workload_id
RETURNING body

-- name: list_archived
SELECT a.workload_id, a.body, w.attempt_count, w.attempt_id
  FROM archived AS a
  JOIN workload AS w
    ON w.id = a.workload_id

-- name: list_runs
SELECT run
  FROM workload
 WHERE run <> ''
 UNION ALL
SELECT run
  FROM workload_run

-- name: list_model_codes
SELECT code
  FROM model

-- name: used_snapshots
SELECT digest
  FROM snapshot_use
 WHERE digest IN (SELECT value FROM json_each(:digests))
   AND workload_count > 0

-- name: forget_snapshot
DELETE FROM snapshot_use
 WHERE digest = :digest
   AND workload_count = 0
