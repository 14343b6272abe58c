-- name: create_series
-- What a node (of a partition, by its name) or a task (of a workload, by its index) is measured by.
CREATE TABLE IF NOT EXISTS series (
    id     INTEGER PRIMARY KEY,
    kind   TEXT NOT NULL CHECK (kind IN ('node', 'task')),
    owner  TEXT NOT NULL,
    part   TEXT NOT NULL,
    metric TEXT NOT NULL,
    UNIQUE (kind, owner, part, metric)
)

-- name: create_point
-- A minute keeps what any statistic of any longer period can be made of, not its samples.
CREATE TABLE IF NOT EXISTS point (
    series_id INTEGER NOT NULL,
    minute    INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    total     REAL NOT NULL,
    least     REAL NOT NULL,
    most      REAL NOT NULL,
    PRIMARY KEY (series_id, minute)
) WITHOUT ROWID

-- name: create_point_by_minute
-- So that to drop the oldest reads no others.
CREATE INDEX IF NOT EXISTS point_by_minute ON point (minute)

-- name: put_series
INSERT INTO series (kind, owner, part, metric)
VALUES (:kind, :owner, :part, :metric)
ON CONFLICT DO NOTHING

-- name: add_to_point
INSERT INTO point (series_id, minute, count, total, least, most)
SELECT id, :minute, 1, :value, :value, :value
  FROM series
 WHERE kind = :kind
   AND owner = :owner
   AND part = :part
   AND metric = :metric
ON CONFLICT (series_id, minute) DO UPDATE
   SET count = count + 1, total = total + excluded.total, least = min(least, excluded.least),
       most = max(most, excluded.most)

-- name: count_points
SELECT count(*)
  FROM point

-- name: find_newest_to_drop
-- The minute of the row after the newest :kept ones; none where there are no more.
SELECT minute
  FROM point
 ORDER BY minute DESC
 LIMIT 1
OFFSET :kept

-- name: drop_points
DELETE FROM point
 WHERE minute <= :minute
RETURNING series_id

-- name: drop_series_without_points
DELETE FROM series
 WHERE id = :series_id
   AND NOT EXISTS (SELECT 1 FROM point WHERE series_id = :series_id)

-- name: list_node_metrics
-- Of all nodes that the partition has or had, as far back as anything is kept.
SELECT DISTINCT metric
  FROM series
 WHERE kind = 'node'
   AND owner = :partition

-- name: sum_up_nodes
-- The minutes from :first to :last by periods, all nodes of the partition together.
SELECT s.metric, p.minute / :period_minutes, sum(p.count), sum(p.total), min(p.least), max(p.most)
  FROM series AS s
  JOIN point AS p
    ON p.series_id = s.id
 WHERE s.kind = 'node'
   AND s.owner = :partition
   AND p.minute BETWEEN :first AND :last
 GROUP BY 1, 2

-- name: sum_up_tasks
-- Likewise of one task of a workload, or of all of them.
SELECT s.metric, p.minute / :period_minutes, sum(p.count), sum(p.total), min(p.least), max(p.most)
  FROM series AS s
  JOIN point AS p
    ON p.series_id = s.id
 WHERE s.kind = 'task'
   AND s.owner = :workload_id
   AND (:task_index IS NULL OR s.part = :task_index)
   AND p.minute BETWEEN :first AND :last
 GROUP BY 1, 2
