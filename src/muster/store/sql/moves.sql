-- name: list_standings
-- How some workloads stand, and where the lists show them. Asked before anything is written, so
-- that no statement after it returns rows; and as one value. For each row SQLite gives the lock of
-- the interpreter away, which beside a busy event loop takes longer than to find the row.
SELECT json_group_array(json_array(
           w.id, w.revision, coalesce(v.id, 0), coalesce(v.workspace_id, ''),
           coalesce(v.pool_id, ''), coalesce(v.is_deleted, 1), coalesce(j.id, 0),
           coalesce(j.latest_version_id, 0), coalesce(j.is_deleted, 1)))
  FROM workload AS w
  LEFT JOIN version AS v
    ON v.workload_id = w.id
  LEFT JOIN job AS j
    ON j.id = v.job_id
 WHERE w.id IN (SELECT value FROM json_each(:ids))

-- name: move_workloads
-- Guarded one by one: touches no row that someone else has changed first.
UPDATE workload
   SET revision = m.column3, phase = m.column4, reason = m.column5, message = m.column6,
       phase_since_ms = m.column7, started_at_ms = m.column8, ended_at_ms = m.column9,
       attempt_started_at_ms = m.column10
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT),
        CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
        CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE workload.id = m.column1
   AND workload.revision = m.column2

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
 WHERE version.id = m.column1

-- name: show_in_job
-- Of which the version is the latest.
UPDATE job
   SET status = m.column2, started_at_ms = m.column3, duration_ms = m.column4
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE job.id = m.column1
