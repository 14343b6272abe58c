-- name: find_job_by_name
-- Along the index of names; see find_taken_names.
SELECT id
  FROM job
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND name = :name
   AND is_deleted = 0
 ORDER BY id, status
 LIMIT 1
