-- name: last_ids
-- Ids are never used again, those of deleted rows neither.
SELECT name, seq
  FROM sqlite_sequence
 WHERE name IN ('job', 'version', 'workload')

-- name: keep_ids
-- From here on no other row gets these ids: SQLite looks to it by itself.
SELECT :job_id, :version_id, :workload_id
