-- name: find_pool
SELECT id, project_id, workspace_id, display_name, partition, phase, message, scopes, node_count,
       cpu_millis, memory_mib, gpu_count, npu_count, labels, annotations, settings, declared,
       created_at_ms, phase_since_ms, wish, revision,
       (SELECT json_group_array(json_array(l.name, l.flavor_code, l.node_count, json(l.settings)))
          FROM (SELECT name, flavor_code, node_count, settings
                  FROM pool_line
                 WHERE pool_id = pool.id
                 ORDER BY position, name) AS l)
  FROM pool
 WHERE id = :pool_id
   AND project_id = :project_id
   AND is_deleted = 0

-- name: list_pools
SELECT id, project_id, workspace_id, display_name, partition, phase, message, scopes, node_count,
       cpu_millis, memory_mib, gpu_count, npu_count, labels, annotations, settings, declared,
       created_at_ms, phase_since_ms, wish, revision,
       (SELECT json_group_array(json_array(l.name, l.flavor_code, l.node_count, json(l.settings)))
          FROM (SELECT name, flavor_code, node_count, settings
                  FROM pool_line
                 WHERE pool_id = pool.id
                 ORDER BY position, name) AS l)
  FROM pool
 WHERE project_id = :project_id
   AND is_deleted = 0
 ORDER BY created_at_ms, id

-- name: list_present_pools
-- Those of every project, oldest first: in that order their wishes are served.
SELECT id, project_id, workspace_id, display_name, partition, phase, message, scopes, node_count,
       cpu_millis, memory_mib, gpu_count, npu_count, labels, annotations, settings, declared,
       created_at_ms, phase_since_ms, wish, revision,
       (SELECT json_group_array(json_array(l.name, l.flavor_code, l.node_count, json(l.settings)))
          FROM (SELECT name, flavor_code, node_count, settings
                  FROM pool_line
                 WHERE pool_id = pool.id
                 ORDER BY position, name) AS l)
  FROM pool
 WHERE is_deleted = 0
 ORDER BY created_at_ms, id

-- name: pool_id_is_used
-- A deleted pool keeps its id: its history is counted under it.
SELECT 1
  FROM pool
 WHERE id = :pool_id

-- name: insert_pool
INSERT INTO pool (
    id, project_id, workspace_id, display_name, partition, phase, message, scopes, node_count,
    cpu_millis, memory_mib, gpu_count, npu_count, labels, annotations, settings, declared,
    created_at_ms, phase_since_ms)
VALUES (
    :id, :project_id, :workspace_id, :display_name, :partition, :phase, :message, :scopes, 0,
    0, 0, 0, 0, :labels, :annotations, :settings, :declared, :created_at_ms, :created_at_ms)

-- name: insert_line
INSERT INTO pool_line (pool_id, name, position, flavor_code, node_count, settings)
VALUES (:pool_id, :name, :position, :flavor_code, :node_count, :settings)

-- name: delete_lines
DELETE FROM pool_line
 WHERE pool_id = :pool_id

-- name: change_pool
-- What a user wishes. Guarded: of two changes at once, one wins and the other is told.
UPDATE pool
   SET workspace_id = :workspace_id, scopes = :scopes, labels = :labels,
       annotations = :annotations, settings = :settings, declared = :declared, wish = wish + 1
 WHERE id = :pool_id
   AND wish = :wish
   AND is_deleted = 0

-- name: move_pool
UPDATE pool
   SET phase = :phase, message = :message, phase_since_ms = :now_ms, revision = revision + 1
 WHERE id = :pool_id
   AND phase = :phase_before
   AND is_deleted = 0

-- name: note_pool
UPDATE pool
   SET message = :message, revision = revision + 1
 WHERE id = :pool_id

-- name: end_pool
UPDATE pool
   SET is_deleted = 1, phase = 'Deleting', node_count = 0, cpu_millis = 0, memory_mib = 0,
       gpu_count = 0, npu_count = 0, phase_since_ms = :now_ms, revision = revision + 1
 WHERE id = :pool_id
   AND is_deleted = 0

-- name: count_pools
SELECT count(*)
  FROM pool
 WHERE project_id = :project_id
   AND partition <> 'public'
   AND is_deleted = 0

-- name: count_wanted_nodes
SELECT coalesce(sum(l.node_count), 0)
  FROM pool AS p
  JOIN pool_line AS l
    ON l.pool_id = p.id
 WHERE p.project_id = :project_id
   AND p.is_deleted = 0
   AND p.phase <> 'CreationFailed'

-- name: pool_is_at_work
-- From the counters: nothing waits or runs, and nothing holds a node.
SELECT coalesce(sum(queue + pending + creating + running + terminating + held_cpu_millis
                    + held_memory_mib + held_gpu_count + held_npu_count), 0) > 0
  FROM tally
 WHERE project_id = :project_id
   AND pool_id = :pool_id

-- name: pool_is_stoppable
-- Likewise, without what has been told to stop.
SELECT coalesce(sum(queue + pending + creating + running), 0) > 0
  FROM tally
 WHERE project_id = :project_id
   AND pool_id = :pool_id

-- name: pool_has_history
SELECT 1
  FROM workload
 WHERE project_id = :project_id
   AND pool_id = :pool_id
 LIMIT 1

-- name: outlook
-- Read at each pass, and compared with that of the pass before.
SELECT (SELECT group_concat(id || ' ' || phase || ' ' || wish || ' ' || revision || ' ' || message)
          FROM (SELECT id, phase, wish, revision, message FROM pool WHERE is_deleted = 0
                 ORDER BY created_at_ms, id) AS p),
       (SELECT group_concat(name || ' ' || phase || is_locked || is_spare || host_name || cards
                            || tags)
          FROM (SELECT * FROM node ORDER BY partition, name) AS n),
       (SELECT group_concat(name || ' ' || is_present || is_up || cards || message)
          FROM (SELECT * FROM host ORDER BY name) AS h)
