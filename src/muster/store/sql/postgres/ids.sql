-- name: last_ids
-- Ids are never used again, those of deleted rows neither.
SELECT name, CASE WHEN is_called THEN last_value ELSE 0 END
  FROM (SELECT 'job' AS name, last_value, is_called FROM job_id_seq
         UNION ALL
        SELECT 'version', last_value, is_called FROM version_id_seq
         UNION ALL
        SELECT 'workload', last_value, is_called FROM workload_id_seq) AS ids

-- name: keep_ids
-- What numbers the rows does not see ids that were handed out otherwise.
SELECT setval('job_id_seq', greatest(:job_id, 1), :job_id > 0),
       setval('version_id_seq', greatest(:version_id, 1), :version_id > 0),
       setval('workload_id_seq', greatest(:workload_id, 1), :workload_id > 0)
