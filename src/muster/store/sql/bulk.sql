-- name: list_indexes
-- Those that cost the most to keep while many rows come in. Not those that refuse what must not be,
-- nor those by id, which only ever grow at their end and are asked while rows come in; nor those of
-- what lives or is deleted, in which history has no place.
SELECT name, sql
  FROM sqlite_schema
 WHERE type = 'index'
   AND tbl_name IN ('job', 'version', 'workload')
   AND sql LIKE 'CREATE INDEX %'
   AND name NOT IN (
       'job_by_id', 'job_running', 'version_by_id', 'version_running', 'workload_active',
       'workload_deleted', 'workload_holding', 'workload_queue')
 ORDER BY name

-- name: create_put_off
-- It is there for as long as an index is not.
CREATE TABLE IF NOT EXISTS index_put_off (
    name TEXT NOT NULL PRIMARY KEY,
    sql  TEXT NOT NULL
)

-- name: insert_put_off
INSERT INTO index_put_off (name, sql)
VALUES (?, ?)

-- name: has_put_off
SELECT count(*)
  FROM sqlite_schema
 WHERE name = 'index_put_off'

-- name: list_put_off
SELECT name, sql
  FROM index_put_off
 ORDER BY name

-- name: delete_put_off
DELETE FROM index_put_off
 WHERE name = ?

-- name: drop_put_off
DROP TABLE index_put_off

-- name: count_rows
-- As far as it decides something: the greatest id, which is found in one step.
SELECT coalesce(max(id), 0)
  FROM version

-- name: list_index_names
SELECT name
  FROM sqlite_schema
 WHERE type = 'index'
   AND sql IS NOT NULL
