-- name: find_jobs
-- Likewise along the index of names; see find_taken_names.
SELECT j.workspace_id, j.name, j.id, j.status, j.next_version_number, i.source
  FROM json_each(:names) AS n
 CROSS JOIN LATERAL (
       SELECT *
         FROM job
        WHERE project_id = :project_id
          AND workspace_id = json_extract(n.value, '$[0]')
          AND name = json_extract(n.value, '$[1]')
          AND is_deleted = 0
        ORDER BY id, status
        LIMIT 1) AS j
  LEFT JOIN imported_job AS i
    ON i.job_id = j.id
