-- name: find_jobs
-- Of every project, with any of the parts in their names: by trigrams where pg_trgm is.
SELECT id
  FROM job
 WHERE lower(name) LIKE ANY (SELECT value FROM json_each(:patterns))
 LIMIT :limit

-- name: named_like
-- Part of other statements: see there.
SELECT id AS value
  FROM job
 WHERE lower(name) LIKE ANY (SELECT value FROM json_each(:patterns))

-- name: list_jobs_not_searchable
-- There are none: the index is one of the table itself.
SELECT id
  FROM job
 WHERE false
