-- name: add_to_tally
-- Update first, insert if there was no row: an upsert would test the CHECKs on the difference.
UPDATE tally
   SET queue = queue + ?, pending = pending + ?, abnormal = abnormal + ?,
       terminating = terminating + ?, creating = creating + ?, running = running + ?,
       completed = completed + ?, terminated = terminated + ?, failed = failed + ?,
       held_cpu_millis = held_cpu_millis + ?, held_memory_mib = held_memory_mib + ?,
       held_gpu_count = held_gpu_count + ?, held_npu_count = held_npu_count + ?
 WHERE project_id = ?
   AND pool_id = ?
   AND type = ?

-- name: insert_tally
INSERT INTO tally (
    project_id, pool_id, type, queue, pending, abnormal, terminating, creating, running,
    completed, terminated, failed, held_cpu_millis, held_memory_mib, held_gpu_count, held_npu_count)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: add_to_version_total
UPDATE version_total
   SET count = count + ?
 WHERE project_id = ?
   AND workspace_id = ?
   AND pool_id = ?
   AND status = ?

-- name: insert_version_total
INSERT INTO version_total (project_id, workspace_id, pool_id, status, count)
VALUES (?, ?, ?, ?, ?)

-- name: add_to_job_total
UPDATE job_total
   SET count = count + ?
 WHERE project_id = ?
   AND workspace_id = ?
   AND status = ?

-- name: insert_job_total
INSERT INTO job_total (project_id, workspace_id, status, count)
VALUES (?, ?, ?, ?)

-- name: add_to_id_block
UPDATE id_block
   SET count = count + ?
 WHERE list = ?
   AND project_id = ?
   AND workspace_id = ?
   AND pool_id = ?
   AND status = ?
   AND block = ?

-- name: insert_id_block
INSERT INTO id_block (list, project_id, workspace_id, pool_id, status, block, count)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: add_to_workspace_use
UPDATE workspace_use
   SET workload_count = workload_count + ?, cpu_millis = cpu_millis + ?,
       memory_mib = memory_mib + ?, gpu_count = gpu_count + ?, npu_count = npu_count + ?
 WHERE project_id = ?
   AND workspace_id = ?
   AND type = ?

-- name: insert_workspace_use
INSERT INTO workspace_use (
    project_id, workspace_id, type, workload_count, cpu_millis, memory_mib, gpu_count, npu_count)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: add_to_snapshot_use
UPDATE snapshot_use
   SET workload_count = workload_count + ?
 WHERE digest = ?

-- name: insert_snapshot_use
INSERT INTO snapshot_use (digest, workload_count)
VALUES (?, ?)

-- name: list_snapshot_uses
SELECT digest, workload_count
  FROM snapshot_use

-- name: pool_statistics
-- The statistics call: one statement, at most three tally rows, and the pool they belong to.
SELECT p.phase, p.cpu_millis, p.memory_mib, p.gpu_count, p.npu_count,
       t.type,
       t.queue + t.pending + t.abnormal + t.terminating + t.creating + t.running + t.completed
           + t.terminated + t.failed,
       t.queue, t.pending, t.abnormal, t.terminating, t.creating, t.running,
       t.completed, t.terminated, t.failed,
       t.held_cpu_millis, t.held_memory_mib, t.held_gpu_count, t.held_npu_count
  FROM pool AS p
  LEFT JOIN tally AS t
    ON t.project_id = p.project_id
   AND t.pool_id = p.id
 WHERE p.id = ?
   AND p.project_id = ?

-- name: held_by_pool
-- All types together.
SELECT pool_id, sum(held_cpu_millis), sum(held_memory_mib), sum(held_gpu_count),
       sum(held_npu_count)
  FROM tally
 WHERE project_id = :project_id
 GROUP BY pool_id

-- name: tallies_of_pool
-- By type; one column a state.
SELECT type, queue, pending, abnormal, terminating, creating, running, completed, terminated,
       failed
  FROM tally
 WHERE project_id = :project_id
   AND pool_id = :pool_id

-- name: recount_tally
SELECT project_id, pool_id, type, phase, reason, is_deleted, is_holding, count(*),
       sum(task_count * task_cpu_millis), sum(task_count * task_memory_mib),
       sum(task_count * task_gpu_count), sum(task_count * task_npu_count)
  FROM workload
 GROUP BY project_id, pool_id, type, phase, reason, is_deleted, is_holding

-- name: list_tallies
SELECT project_id, pool_id, type, queue, pending, abnormal, terminating, creating, running,
       completed, terminated, failed, held_cpu_millis, held_memory_mib, held_gpu_count,
       held_npu_count
  FROM tally

-- name: recount_version_total
SELECT project_id, workspace_id, pool_id, status, count(*)
  FROM version
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, pool_id, status

-- name: list_version_totals
SELECT project_id, workspace_id, pool_id, status, count
  FROM version_total

-- name: recount_job_total
SELECT project_id, workspace_id, status, count(*)
  FROM job
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, status

-- name: list_job_totals
SELECT project_id, workspace_id, status, count
  FROM job_total

-- name: recount_id_block
SELECT 'job', project_id, workspace_id, '', status, id >> 14, count(*)
  FROM job
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, status, id >> 14
 UNION ALL
SELECT 'version', project_id, workspace_id, '', status, id >> 14, count(*)
  FROM version
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, status, id >> 14
 UNION ALL
SELECT 'pooled', project_id, workspace_id, pool_id, status, id >> 14, count(*)
  FROM version
 WHERE is_deleted = 0
 GROUP BY project_id, workspace_id, pool_id, status, id >> 14

-- name: list_id_blocks
SELECT list, project_id, workspace_id, pool_id, status, block, count
  FROM id_block

-- name: recount_workspace_use
-- By phase: which of them take of a quota is decided where the phases are.
SELECT project_id, workspace_id, type, phase, is_holding, count(*),
       sum(task_count * task_cpu_millis), sum(task_count * task_memory_mib),
       sum(task_count * task_gpu_count), sum(task_count * task_npu_count)
  FROM workload
 GROUP BY project_id, workspace_id, type, phase, is_holding

-- name: list_workspace_uses
SELECT project_id, workspace_id, type, workload_count, cpu_millis, memory_mib, gpu_count, npu_count
  FROM workspace_use
