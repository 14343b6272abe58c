-- name: list_events
-- Everything that happened to one workload, first to last: it moves a bounded number of times.
SELECT at_ms, event, phase_before, phase_after, reason, message, actor, number
  FROM event
 WHERE workload_id = :workload_id
 ORDER BY number
 LIMIT :limit

-- name: count_reports
-- Of one workload: a bounded number of rows.
SELECT count(*)
  FROM event
 WHERE workload_id = :workload_id
   AND event = :event

-- name: list_past_attempts
-- Of some workloads, each first to last.
SELECT workload_id, number, attempt_id, engine_ref, placements, started_at_ms, ended_at_ms,
       reason, message
  FROM past_attempt
 WHERE workload_id IN (SELECT value FROM json_each(:workload_ids))
 ORDER BY workload_id, number
