-- name: list_standings
SELECT coalesce(CAST(json_agg(json_build_array(
           w.id, w.revision, coalesce(v.id, 0), coalesce(v.workspace_id, ''),
           coalesce(v.pool_id, ''), coalesce(v.is_deleted, 1), coalesce(j.id, 0),
           coalesce(j.latest_version_id, 0), coalesce(j.is_deleted, 1))) AS text), '[]')
  FROM workload AS w
  LEFT JOIN version AS v
    ON v.workload_id = w.id
  LEFT JOIN job AS j
    ON j.id = v.job_id
 WHERE w.id IN (SELECT value FROM json_each(:ids))
