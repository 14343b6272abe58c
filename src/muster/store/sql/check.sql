-- name: statuses
SELECT v.id, v.status, w.phase, w.reason
  FROM version AS v
  JOIN workload AS w
    ON w.id = v.workload_id

-- name: versions_beside_their_workload
-- A duration is 0 before it runs and NULL while it does.
SELECT v.id, v.started_at_ms, v.ended_at_ms, v.duration_ms, w.started_at_ms, w.ended_at_ms
  FROM version AS v
  JOIN workload AS w
    ON w.id = v.workload_id
 WHERE v.started_at_ms IS NOT w.started_at_ms
    OR v.ended_at_ms IS NOT w.ended_at_ms
    OR v.duration_ms IS NOT CASE WHEN w.started_at_ms IS NULL THEN 0
                                 ELSE w.ended_at_ms - w.started_at_ms END

-- name: jobs_beside_their_latest_version
-- A job shows its newest version that is not deleted.
SELECT j.id, j.latest_version_id, j.status, v.id, v.status
  FROM job AS j
  LEFT JOIN version AS v
    ON v.id = (SELECT max(x.id) FROM version AS x WHERE x.job_id = j.id AND x.is_deleted = 0)
 WHERE j.is_deleted = 0
   AND (j.latest_version_id IS NOT v.id
        OR j.status <> coalesce(v.status, 0)
        OR j.started_at_ms IS NOT v.started_at_ms
        OR j.duration_ms IS NOT CASE WHEN v.id IS NULL THEN 0 ELSE v.duration_ms END
        OR j.version_count <> (
            SELECT count(*) FROM version AS x WHERE x.job_id = j.id AND x.is_deleted = 0))

-- name: cards_held_by_nobody
SELECT c.node_name, c.card, c.workload_id
  FROM card_hold AS c
  LEFT JOIN workload AS w
    ON w.id = c.workload_id
 WHERE w.is_holding IS NOT 1

-- name: cards_held_and_cards_placed
SELECT w.id, w.task_count * (w.task_gpu_count + w.task_npu_count), count(c.card)
  FROM workload AS w
  LEFT JOIN card_hold AS c
    ON c.workload_id = w.id
 WHERE w.is_holding = 1
 GROUP BY w.id
HAVING count(c.card) <> w.task_count * (w.task_gpu_count + w.task_npu_count)

-- name: workloads_that_hold_nodes_for_nothing
SELECT id, phase
  FROM workload
 WHERE is_holding = 1
   AND phase NOT IN ('Starting', 'Running', 'Terminating', 'StopFailed', 'Lost')
