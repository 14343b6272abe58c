-- name: add_to_tally
-- Update first, insert if there was no row: an upsert would test the CHECKs on the difference.
-- Of many rows: the values that are added, then the key.
UPDATE tally
   SET queue = queue + m.column1, pending = pending + m.column2, abnormal = abnormal + m.column3,
       terminating = terminating + m.column4, creating = creating + m.column5,
       running = running + m.column6, completed = completed + m.column7,
       terminated = terminated + m.column8, failed = failed + m.column9,
       held_cpu_millis = held_cpu_millis + m.column10,
       held_memory_mib = held_memory_mib + m.column11,
       held_gpu_count = held_gpu_count + m.column12, held_npu_count = held_npu_count + m.column13
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))) AS m
 WHERE tally.project_id = m.column14
   AND tally.pool_id = m.column15
   AND tally.type = m.column16

-- name: insert_tally
-- Likewise, where there is no such row.
INSERT INTO tally (
    queue, pending, abnormal, terminating, creating, running, completed, terminated, failed,
    held_cpu_millis, held_memory_mib, held_gpu_count, held_npu_count, project_id, pool_id, type)
SELECT m.column1, m.column2, m.column3, m.column4, m.column5, m.column6, m.column7, m.column8,
       m.column9, m.column10, m.column11, m.column12, m.column13, m.column14, m.column15, m.column16
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM tally AS t WHERE t.project_id = m.column14
                      AND t.pool_id = m.column15
                      AND t.type = m.column16)

-- name: add_to_version_total
UPDATE version_total
   SET count = count + m.column1
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
         CAST(? AS BIGINT))) AS m
 WHERE version_total.project_id = m.column2
   AND version_total.workspace_id = m.column3
   AND version_total.pool_id = m.column4
   AND version_total.status = m.column5

-- name: insert_version_total
INSERT INTO version_total (count, project_id, workspace_id, pool_id, status)
SELECT m.column1, m.column2, m.column3, m.column4, m.column5
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
         CAST(? AS BIGINT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM version_total AS t WHERE t.project_id = m.column2
                      AND t.workspace_id = m.column3
                      AND t.pool_id = m.column4
                      AND t.status = m.column5)

-- name: add_to_job_total
UPDATE job_total
   SET count = count + m.column1
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT))) AS m
 WHERE job_total.project_id = m.column2
   AND job_total.workspace_id = m.column3
   AND job_total.status = m.column4

-- name: insert_job_total
INSERT INTO job_total (count, project_id, workspace_id, status)
SELECT m.column1, m.column2, m.column3, m.column4
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM job_total AS t WHERE t.project_id = m.column2
                      AND t.workspace_id = m.column3
                      AND t.status = m.column4)

-- name: add_to_id_block
UPDATE id_block
   SET count = count + m.column1
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
         CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE id_block.list = m.column2
   AND id_block.project_id = m.column3
   AND id_block.workspace_id = m.column4
   AND id_block.pool_id = m.column5
   AND id_block.status = m.column6
   AND id_block.block = m.column7

-- name: insert_id_block
INSERT INTO id_block (count, list, project_id, workspace_id, pool_id, status, block)
SELECT m.column1, m.column2, m.column3, m.column4, m.column5, m.column6, m.column7
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
         CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM id_block AS t WHERE t.list = m.column2
                      AND t.project_id = m.column3
                      AND t.workspace_id = m.column4
                      AND t.pool_id = m.column5
                      AND t.status = m.column6
                      AND t.block = m.column7)

-- name: add_to_key_block
UPDATE key_block
   SET count = count + m.column1
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
         CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE key_block.list = m.column2
   AND key_block.sort = m.column3
   AND key_block.project_id = m.column4
   AND key_block.workspace_id = m.column5
   AND key_block.pool_id = m.column6
   AND key_block.status = m.column7
   AND key_block.number = m.column8

-- name: insert_key_block
INSERT INTO key_block (
    count, list, sort, project_id, workspace_id, pool_id, status, number)
SELECT m.column1, m.column2, m.column3, m.column4, m.column5, m.column6, m.column7, m.column8
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
         CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM key_block AS t WHERE t.list = m.column2
                      AND t.sort = m.column3
                      AND t.project_id = m.column4
                      AND t.workspace_id = m.column5
                      AND t.pool_id = m.column6
                      AND t.status = m.column7
                      AND t.number = m.column8)

-- name: add_to_workspace_use
UPDATE workspace_use
   SET workload_count = workload_count + m.column1, cpu_millis = cpu_millis + m.column2,
       memory_mib = memory_mib + m.column3, gpu_count = gpu_count + m.column4,
       npu_count = npu_count + m.column5
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))) AS m
 WHERE workspace_use.project_id = m.column6
   AND workspace_use.workspace_id = m.column7
   AND workspace_use.type = m.column8

-- name: insert_workspace_use
INSERT INTO workspace_use (
    workload_count, cpu_millis, memory_mib, gpu_count, npu_count, project_id, workspace_id, type)
SELECT m.column1, m.column2, m.column3, m.column4, m.column5, m.column6, m.column7, m.column8
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT),
         CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM workspace_use AS t WHERE t.project_id = m.column6
                      AND t.workspace_id = m.column7
                      AND t.type = m.column8)

-- name: add_to_snapshot_use
UPDATE snapshot_use
   SET workload_count = workload_count + m.column1
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT))) AS m
 WHERE snapshot_use.digest = m.column2

-- name: insert_snapshot_use
INSERT INTO snapshot_use (workload_count, digest)
SELECT m.column1, m.column2
  FROM (VALUES (CAST(? AS BIGINT), CAST(? AS TEXT))) AS m
 WHERE NOT EXISTS (SELECT 1 FROM snapshot_use AS t WHERE t.digest = m.column2)

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
