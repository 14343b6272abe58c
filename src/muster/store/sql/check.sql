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
-- A job shows its newest version that is not deleted, and how many there are. Added up, not looked
-- for: without statistics PostgreSQL would walk every version for each job.
SELECT j.id, j.latest_version_id, j.status, v.id, v.status
  FROM job AS j
  LEFT JOIN version AS v
    ON v.id = j.latest_version_id
 WHERE j.is_deleted = 0
   AND (j.latest_version_id IS NOT v.id
        OR j.status <> coalesce(v.status, 0)
        OR j.started_at_ms IS NOT v.started_at_ms
        OR j.duration_ms IS NOT CASE WHEN v.id IS NULL THEN 0 ELSE v.duration_ms END)
 UNION ALL
SELECT b.job_id, max(b.latest_id), NULL, max(b.version_id), NULL
  FROM (SELECT j.id AS job_id, j.latest_version_id AS latest_id, j.version_count AS versions,
               NULL AS version_id
          FROM job AS j
         WHERE j.is_deleted = 0
         UNION ALL
        SELECT x.job_id, NULL, 0, x.id
          FROM version AS x
         WHERE x.is_deleted = 0) AS b
 GROUP BY b.job_id
HAVING coalesce(max(b.latest_id), 0) <> coalesce(max(b.version_id), 0)
    OR max(b.versions) <> count(b.version_id)

-- name: jobs_beside_the_search
-- It knows every job up to its mark under the number of its place, but deleted ones, and no other.
SELECT j.id
  FROM job AS j
  LEFT JOIN job_search_place AS p
    ON p.project_id = j.project_id
   AND p.workspace_id = j.workspace_id
 WHERE j.id <= (SELECT id FROM job_search_mark)
   AND j.is_deleted = 0
   AND NOT EXISTS (SELECT 1 FROM job_search_docsize AS s WHERE s.id = (p.number << 40) + j.id)
 UNION ALL
SELECT s.id & 1099511627775
  FROM job_search_docsize AS s
 WHERE NOT EXISTS (SELECT 1
                     FROM job_search_place AS p
                     JOIN job AS j
                       ON j.id = s.id & 1099511627775
                      AND j.project_id = p.project_id
                      AND j.workspace_id = p.workspace_id
                      AND j.is_deleted = 0
                    WHERE p.number = s.id >> 40)

-- name: experiments_beside_their_jobs
SELECT e.id, e.job_count, count(x.version_id)
  FROM experiment AS e
  LEFT JOIN experiment_version AS x
    ON x.experiment_id = e.id
 GROUP BY e.id, e.job_count
HAVING e.job_count <> count(x.version_id)

-- name: experiments_of_nobody
-- Only versions that are listed stand in experiments, and only in those that are there.
SELECT x.version_id, x.experiment_id
  FROM experiment_version AS x
  LEFT JOIN version AS v
    ON v.id = x.version_id
   AND v.is_deleted = 0
  LEFT JOIN experiment AS e
    ON e.id = x.experiment_id
   AND e.project_id = v.project_id
 WHERE e.id IS NULL

-- name: tags_of_nobody
-- Only versions that are listed have tags, and each stands with them in its own workspace.
SELECT t.version_id, t.key
  FROM version_tag AS t
  LEFT JOIN version AS v
    ON v.id = t.version_id
   AND v.is_deleted = 0
   AND v.project_id = t.project_id
   AND v.workspace_id = t.workspace_id
 WHERE v.id IS NULL

-- name: cards_held_by_nobody
SELECT c.host_name, c.card, c.workload_id
  FROM card_hold AS c
  LEFT JOIN workload AS w
    ON w.id = c.workload_id
 WHERE coalesce(w.is_holding, 0) <> 1

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

-- name: events_with_a_gap
SELECT workload_id, max(number), count(*)
  FROM event
 GROUP BY workload_id
HAVING max(number) <> count(*)

-- name: attempts_beside_their_count
-- The one that goes on stands in the workload, those before it in their history.
SELECT w.id, w.attempt_count, count(a.number)
  FROM workload AS w
  LEFT JOIN past_attempt AS a
    ON a.workload_id = w.id
 WHERE w.is_archived = 0
   AND (w.attempt_count > 0 OR w.attempt_id IS NOT NULL)
 GROUP BY w.id
HAVING w.attempt_count <> count(a.number) + CASE WHEN w.attempt_id IS NULL THEN 0 ELSE 1 END
    OR max(coalesce(a.number, 0)) <> count(a.number)

-- name: archived_of_nobody
SELECT a.workload_id
  FROM archived AS a
  LEFT JOIN workload AS w
    ON w.id = a.workload_id
 WHERE coalesce(w.is_archived, 0) <> 1

-- name: archived_without_their_row
SELECT w.id
  FROM workload AS w
  LEFT JOIN archived AS a
    ON a.workload_id = w.id
 WHERE w.is_archived = 1
   AND a.workload_id IS NULL

-- name: archived_before_their_end
SELECT id, phase
  FROM workload
 WHERE is_archived = 1
   AND (ended_at_ms IS NULL OR is_holding = 1)

-- name: archived_and_still_here
-- What was packed is gone from where it was.
SELECT w.id
  FROM workload AS w
 WHERE w.is_archived = 1
   AND (w.run <> ''
        OR EXISTS (SELECT 1 FROM workload_run AS r WHERE r.workload_id = w.id)
        OR EXISTS (SELECT 1 FROM version_config AS c WHERE c.workload_id = w.id)
        OR EXISTS (SELECT 1 FROM event AS e WHERE e.workload_id = w.id)
        OR EXISTS (SELECT 1 FROM past_attempt AS p WHERE p.workload_id = w.id))

-- name: pools_beside_their_nodes
SELECT p.id, p.node_count, p.cpu_millis, p.memory_mib, p.gpu_count + p.npu_count
  FROM pool AS p
  LEFT JOIN node AS n
    ON n.partition = p.partition
 WHERE p.is_deleted = 0
 GROUP BY p.id
HAVING p.node_count <> count(n.name)
    OR p.cpu_millis <> coalesce(sum(n.cpu_millis) FILTER (WHERE n.phase <> 'Abnormal'), 0)
    OR p.memory_mib <> coalesce(sum(n.memory_mib) FILTER (WHERE n.phase <> 'Abnormal'), 0)
    OR p.gpu_count + p.npu_count
       <> coalesce(sum(json_array_length(n.cards)) FILTER (WHERE n.phase <> 'Abnormal'), 0)

-- name: cards_dealt_twice
SELECT n.host_name, c.value, count(*)
  FROM node AS n, json_each(n.cards) AS c
 GROUP BY n.host_name, c.value
HAVING count(*) > 1

-- name: pool_events_with_a_gap
SELECT pool_id, max(number), count(*)
  FROM pool_event
 GROUP BY pool_id
HAVING max(number) <> count(*)

-- name: imported_beside_their_line
-- The key of a line begins with that of its job, and ends with when its version was made.
SELECT k.source, k.version_id
  FROM import_key AS k
  JOIN version AS v
    ON v.id = k.version_id
  LEFT JOIN imported_job AS i
    ON i.job_id = v.job_id
 WHERE k.project_id <> v.project_id
    OR i.job_id IS NULL
    OR substr(k.source, 1, length(i.source) + 1) <> i.source || '/'
    OR substr(k.source, length(k.source) - length('/' || v.created_at_ms) + 1)
       <> '/' || v.created_at_ms

-- name: imported_from_two_lines
SELECT version_id, count(*)
  FROM import_key
 GROUP BY version_id
HAVING count(*) > 1

-- name: imported_without_their_line
-- It would come in once more.
SELECT v.id
  FROM event AS e
  JOIN version AS v
    ON v.workload_id = e.workload_id
 WHERE e.event = 'Imported'
   AND v.is_deleted = 0
EXCEPT
SELECT version_id
  FROM import_key

-- name: imported_jobs_beside_their_name
SELECT i.job_id, i.source, j.name
  FROM imported_job AS i
  JOIN job AS j
    ON j.id = i.job_id
 WHERE substr(i.source, length(i.source) - length(j.name)) <> ':' || j.name

-- name: lists_out_of_order_and_not_noted
-- Ids ascend with create times, unless it is noted that they do not.
SELECT r.list, r.project_id, r.workspace_id, r.id
  FROM (SELECT 'job' AS list, project_id, workspace_id, id, created_at_ms,
               lag(created_at_ms) OVER (
                   PARTITION BY project_id, workspace_id ORDER BY id) AS before_ms
          FROM job
         WHERE is_deleted = 0
         UNION ALL
        SELECT 'version' AS list, project_id, workspace_id, id, created_at_ms,
               lag(created_at_ms) OVER (
                   PARTITION BY project_id, workspace_id ORDER BY id) AS before_ms
          FROM version
         WHERE is_deleted = 0) AS r
  LEFT JOIN out_of_order AS o
    ON o.project_id = r.project_id
   AND o.workspace_id = r.workspace_id
   AND o.list = r.list
 WHERE r.created_at_ms < r.before_ms
   AND o.list IS NULL

-- name: instances_of_deleted_workloads
-- An instance of a service goes with its workload.
SELECT i.id, i.service_id, i.workload_id
  FROM service_instance AS i
  JOIN workload AS w
    ON w.id = i.workload_id
 WHERE w.is_deleted = 1
