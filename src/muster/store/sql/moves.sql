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

-- name: list_nodes_at_work
-- Of these nodes, those that take work: one may have been locked or drained a moment ago.
SELECT name, partition, host_name
  FROM node
 WHERE name IN (SELECT value FROM json_each(:names))
   AND phase = 'Available'
   AND is_locked = 0
   AND is_spare = 0

-- name: list_cards_held_on
SELECT host_name, card, workload_id
  FROM card_hold
 WHERE host_name IN (SELECT value FROM json_each(:hosts))

-- name: hold_card
-- The primary key refuses a card that somebody has.
INSERT INTO card_hold (host_name, card, workload_id)
VALUES (?, ?, ?)

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

-- name: insert_past_attempt
INSERT INTO past_attempt (
    workload_id, number, attempt_id, engine_ref, placements, started_at_ms, ended_at_ms, reason,
    message)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

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
