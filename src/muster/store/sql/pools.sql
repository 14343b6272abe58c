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

-- name: measure_pools
-- What the nodes of a partition come to, in every pool that is a view of it.
UPDATE pool
   SET node_count = (SELECT count(*) FROM node AS n WHERE n.partition = :partition),
       cpu_millis = (SELECT coalesce(sum(n.cpu_millis), 0) FROM node AS n
                      WHERE n.partition = :partition AND n.phase <> 'Abnormal'),
       memory_mib = (SELECT coalesce(sum(n.memory_mib), 0) FROM node AS n
                      WHERE n.partition = :partition AND n.phase <> 'Abnormal'),
       gpu_count = (SELECT coalesce(sum(json_array_length(n.cards)), 0) FROM node AS n
                     WHERE n.partition = :partition AND n.phase <> 'Abnormal'
                       AND n.card_kind = 'gpu'),
       npu_count = (SELECT coalesce(sum(json_array_length(n.cards)), 0) FROM node AS n
                     WHERE n.partition = :partition AND n.phase <> 'Abnormal'
                       AND n.card_kind = 'npu')
 WHERE partition = :partition
   AND is_deleted = 0

-- name: count_nodes
-- By what the events tell: available, abnormal, to come, leaving. To one that goes, or never came to
-- be, nothing comes.
SELECT p.id,
       (SELECT count(*) FROM node AS n WHERE n.partition = p.partition AND n.phase = 'Available'),
       (SELECT count(*) FROM node AS n WHERE n.partition = p.partition AND n.phase = 'Abnormal'),
       CASE WHEN p.phase IN ('Deleting', 'CreationFailed') THEN 0
            ELSE (SELECT coalesce(sum(max(0, l.node_count
                         - (SELECT count(*) FROM node AS n
                             WHERE n.partition = p.partition AND n.line_name = l.name
                               AND n.phase <> 'Deleting'))), 0)
                    FROM pool_line AS l
                   WHERE l.pool_id = p.id)
        END,
       (SELECT count(*) FROM node AS n WHERE n.partition = p.partition AND n.phase = 'Deleting')
  FROM pool AS p
 WHERE p.partition = :partition
   AND p.is_deleted = 0
 ORDER BY p.id

-- name: count_by_line
SELECT n.partition, n.line_name, n.flavor_code, n.phase, count(*)
  FROM pool AS p
  JOIN node AS n
    ON n.partition = p.partition
 WHERE p.project_id = :project_id
   AND p.is_deleted = 0
 GROUP BY n.partition, n.line_name, n.flavor_code, n.phase
 ORDER BY n.partition, n.line_name, n.flavor_code, n.phase

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

-- name: insert_pool_event
-- Numbered within the pool, without a gap.
INSERT INTO pool_event (pool_id, number, node_name, at_ms, type, reason, message, actor)
SELECT :pool_id, coalesce(max(number), 0) + 1, :node_name, :now_ms, :type, :reason, :message, :actor
  FROM pool_event
 WHERE pool_id = :pool_id

-- name: list_pool_events
SELECT number, node_name, at_ms, type, reason, message, actor
  FROM pool_event
 WHERE pool_id = :pool_id
   AND (CAST(:type AS text) IS NULL OR type = :type)
   AND (CAST(:since_ms AS bigint) IS NULL OR at_ms >= :since_ms)
   AND (CAST(:until_ms AS bigint) IS NULL OR at_ms <= :until_ms)
   AND (CAST(:after AS bigint) IS NULL OR number * :direction > :after * :direction)
 ORDER BY number * :direction
 LIMIT :limit
OFFSET :offset

-- name: count_pool_events
-- All that match, and those of them behind the last one shown.
SELECT count(*),
       count(*) FILTER (WHERE CAST(:after AS bigint) IS NULL
                           OR number * :direction > :after * :direction)
  FROM pool_event
 WHERE pool_id = :pool_id
   AND (CAST(:type AS text) IS NULL OR type = :type)
   AND (CAST(:since_ms AS bigint) IS NULL OR at_ms >= :since_ms)
   AND (CAST(:until_ms AS bigint) IS NULL OR at_ms <= :until_ms)

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

-- name: put_host
INSERT INTO host (name, cpu_millis, memory_mib, card_kind, card_model, cards, is_present)
VALUES (:name, :cpu_millis, :memory_mib, :card_kind, :card_model, :cards, 1)
ON CONFLICT (name) DO UPDATE
   SET cpu_millis = excluded.cpu_millis, memory_mib = excluded.memory_mib,
       card_kind = excluded.card_kind, card_model = excluded.card_model, cards = excluded.cards,
       is_present = 1

-- name: withdraw_hosts
-- Before the inventory's own are put back.
UPDATE host
   SET is_present = 0

-- name: set_host_condition
UPDATE host
   SET is_up = :is_up, message = :message
 WHERE name = :name

-- name: list_hosts
SELECT name, cpu_millis, memory_mib, card_kind, card_model, cards, is_present, is_up, message
  FROM host
 ORDER BY name

-- name: measure_public_nodes
-- A public node is its whole host; its cards are dealt by the reconciler.
UPDATE node
   SET cpu_millis = (SELECT h.cpu_millis FROM host AS h WHERE h.name = node.host_name),
       memory_mib = (SELECT h.memory_mib FROM host AS h WHERE h.name = node.host_name),
       card_kind = (SELECT h.card_kind FROM host AS h WHERE h.name = node.host_name)
 WHERE partition = 'public'

-- name: list_public_hosts
-- The hosts that there were at the last start.
SELECT DISTINCT host_name
  FROM node
 WHERE partition = 'public'
 ORDER BY host_name

-- name: adopt_nodes
-- Nodes from before hosts were known: where there is one host only, all are its own.
UPDATE node
   SET host_name = (SELECT name FROM host WHERE is_present = 1)
 WHERE host_name = ''
   AND (SELECT count(*) FROM host WHERE is_present = 1) = 1

-- name: drop_nodes_without_host
-- Where there were several, nobody knows: they are dealt anew.
DELETE FROM node
 WHERE host_name = ''

-- name: adopt_card_holds
-- Holds from before hosts were known: where there is one host only, all cards are its own.
UPDATE card_hold
   SET host_name = (SELECT name FROM host WHERE is_present = 1)
 WHERE host_name NOT IN (SELECT name FROM host)
   AND (SELECT count(*) FROM host WHERE is_present = 1) = 1

-- name: insert_node
INSERT INTO node (
    name, partition, line_name, flavor_code, host_name, cpu_millis, memory_mib, card_kind, cards,
    phase, created_at_ms, phase_since_ms)
VALUES (
    :name, :partition, :line_name, :flavor_code, :host_name, :cpu_millis, :memory_mib, :card_kind,
    :cards, :phase, :now_ms, :now_ms)

-- name: delete_node
DELETE FROM node
 WHERE name = :name

-- name: deal_cards
UPDATE node
   SET cards = :cards
 WHERE name = :name

-- name: mark_node
UPDATE node
   SET phase = :phase, message = :message, phase_since_ms = :now_ms
 WHERE name = :name

-- name: lock_node
UPDATE node
   SET is_locked = :is_locked
 WHERE name = :name

-- name: spare_node
UPDATE node
   SET is_spare = :is_spare
 WHERE name = :name

-- name: tag_node
UPDATE node
   SET tags = :tags
 WHERE name = :name

-- name: list_partition_nodes
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards, line_name, flavor_code, host_name,
       phase, message, is_locked, is_spare, tags, created_at_ms
  FROM node
 WHERE partition = :partition
 ORDER BY name

-- name: find_node
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards, line_name, flavor_code, host_name,
       phase, message, is_locked, is_spare, tags, created_at_ms
  FROM node
 WHERE partition = :partition
   AND name = :name

-- name: list_node_page
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards, line_name, flavor_code, host_name,
       phase, message, is_locked, is_spare, tags, created_at_ms
  FROM node
 WHERE partition = :partition
   AND name > :after
   AND (CAST(:line_name AS text) IS NULL OR line_name = :line_name)
 ORDER BY name
 LIMIT :limit

-- name: count_node_page
SELECT count(*)
  FROM node
 WHERE partition = :partition
   AND name > :after
   AND (CAST(:line_name AS text) IS NULL OR line_name = :line_name)

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

-- name: list_holds
-- One row a task, of what runs or has not given its nodes back: bounded by what the nodes hold.
SELECT json_extract(p.value, '$.node_name'), w.task_cpu_millis, w.task_memory_mib,
       coalesce(json_extract(p.value, '$.cards'), '[]')
  FROM workload AS w, json_each(w.placements) AS p
 WHERE (w.phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR w.is_holding = 1)
   AND w.is_holding = 1
   AND w.partition = :partition

-- name: list_nodes
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards, line_name, flavor_code, host_name,
       phase, message, is_locked, is_spare, tags, created_at_ms
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
