-- name: find_jobs
-- Of every project: whose they are is asked when they are read.
SELECT rowid
  FROM job_search
 WHERE job_search MATCH :words
 LIMIT :limit

-- name: list_jobs_not_searchable
-- The newest ones, 256 at most: the search learns them together.
SELECT id
  FROM job
 WHERE id > (SELECT id FROM job_search_mark)

-- name: find_versions_by_uid
SELECT v.id
  FROM json_each(:uids) AS u
 CROSS JOIN workload AS w
    ON w.uid = u.value
 CROSS JOIN version AS v
    ON v.workload_id = w.id
