-- name: list_partition_nodes
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards, line_name, flavor_code, host_name,
       phase, message, is_locked, is_spare, tags, created_at_ms
  FROM node
 WHERE partition = :partition
 ORDER BY name

-- name: list_nodes
SELECT name, partition, cpu_millis, memory_mib, card_kind, cards, line_name, flavor_code, host_name,
       phase, message, is_locked, is_spare, tags, created_at_ms
  FROM node
 ORDER BY partition, name

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

-- name: count_by_line
SELECT n.partition, n.line_name, n.flavor_code, n.phase, count(*)
  FROM pool AS p
  JOIN node AS n
    ON n.partition = p.partition
 WHERE p.project_id = :project_id
   AND p.is_deleted = 0
 GROUP BY n.partition, n.line_name, n.flavor_code, n.phase
 ORDER BY n.partition, n.line_name, n.flavor_code, n.phase

-- name: list_holds
-- One row a task, of what runs or has not given its nodes back: bounded by what the nodes hold.
SELECT json_extract(p.value, '$.node_name'), w.task_cpu_millis, w.task_memory_mib,
       coalesce(json_extract(p.value, '$.cards'), '[]')
  FROM workload AS w, json_each(w.placements) AS p
 WHERE (w.phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR w.is_holding = 1)
   AND w.is_holding = 1
   AND w.partition = :partition

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

-- name: mark_node
UPDATE node
   SET phase = :phase, message = :message, phase_since_ms = :now_ms
 WHERE name = :name

-- name: deal_cards
UPDATE node
   SET cards = :cards
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

-- name: measure_public_nodes
-- A public node is its whole host; its cards are dealt by the reconciler.
UPDATE node
   SET cpu_millis = (SELECT h.cpu_millis FROM host AS h WHERE h.name = node.host_name),
       memory_mib = (SELECT h.memory_mib FROM host AS h WHERE h.name = node.host_name),
       card_kind = (SELECT h.card_kind FROM host AS h WHERE h.name = node.host_name)
 WHERE partition = 'public'

-- name: list_hosts
SELECT name, cpu_millis, memory_mib, card_kind, card_model, cards, is_present, is_up, message
  FROM host
 ORDER BY name

-- name: set_host_condition
UPDATE host
   SET is_up = :is_up, message = :message
 WHERE name = :name
