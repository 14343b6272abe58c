-- name: find_pool
SELECT id, project_id, display_name, partition, phase, scopes, flavor_code, node_count,
       cpu_millis, memory_mib, gpu_count, npu_count, created_at_ms
  FROM pool
 WHERE id = :pool_id
   AND project_id = :project_id

-- name: list_pools
SELECT id, project_id, display_name, partition, phase, scopes, flavor_code, node_count,
       cpu_millis, memory_mib, gpu_count, npu_count, created_at_ms
  FROM pool
 WHERE project_id = :project_id
 ORDER BY created_at_ms, id

-- name: put_pool
-- Declared pools follow the inventory at each start.
INSERT INTO pool (
    id, project_id, display_name, partition, phase, scopes, flavor_code, node_count,
    cpu_millis, memory_mib, gpu_count, npu_count, created_at_ms)
VALUES (
    :id, :project_id, :display_name, :partition, :phase, :scopes, :flavor_code, :node_count,
    :cpu_millis, :memory_mib, :gpu_count, :npu_count, :created_at_ms)
ON CONFLICT (id) DO UPDATE
   SET phase = excluded.phase, scopes = excluded.scopes, flavor_code = excluded.flavor_code,
       node_count = excluded.node_count, cpu_millis = excluded.cpu_millis,
       memory_mib = excluded.memory_mib, gpu_count = excluded.gpu_count,
       npu_count = excluded.npu_count

-- name: list_pool_ids
SELECT id
  FROM pool

-- name: count_pool_workloads
SELECT count(*)
  FROM workload
 WHERE pool_id = :pool_id

-- name: delete_pool
DELETE FROM pool
 WHERE id = :pool_id

-- name: withdraw_pool
-- Its history stays countable; nothing new can go there.
UPDATE pool
   SET phase = 'Abnormal', node_count = 0, cpu_millis = 0, memory_mib = 0, gpu_count = 0,
       npu_count = 0
 WHERE id = :pool_id

-- name: delete_nodes
DELETE FROM node

-- name: insert_node
INSERT INTO node (name, partition, cpu_millis, memory_mib, card_kind, cards)
VALUES (:name, :partition, :cpu_millis, :memory_mib, :card_kind, :cards)

-- name: list_partition_nodes
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards
  FROM node
 WHERE partition = :partition
 ORDER BY name

-- name: list_nodes
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards
  FROM node
 ORDER BY partition, name

-- name: default_project_id
SELECT id
  FROM project
 WHERE is_default = 1

-- name: put_flavor
INSERT INTO flavor (code)
VALUES (:code)
ON CONFLICT (code) DO NOTHING

-- name: list_flavor_ids
SELECT code, spec_id
  FROM flavor

-- name: put_ai_engine
INSERT INTO ai_engine (name, version)
VALUES (:name, :version)
ON CONFLICT (name, version) DO NOTHING

-- name: list_ai_engine_ids
SELECT name, version, engine_id
  FROM ai_engine

-- name: find_bucket_owner
SELECT project_id
  FROM bucket
 WHERE name = :name

-- name: insert_bucket
INSERT INTO bucket (name, project_id)
VALUES (:name, :project_id)

-- name: list_buckets
SELECT name
  FROM bucket
 WHERE project_id = :project_id
 ORDER BY name
