-- name: find_bucket_owner
SELECT project_id
  FROM bucket
 WHERE name = :name

-- name: insert_bucket
INSERT INTO bucket (name, project_id)
VALUES (:name, :project_id)

-- name: list_buckets
SELECT name
  FROM bucket
 WHERE project_id = :project_id
 ORDER BY name

-- name: default_project_id
SELECT id
  FROM project
 WHERE is_default = 1
