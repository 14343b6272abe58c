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
