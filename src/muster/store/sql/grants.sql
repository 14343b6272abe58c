-- name: insert_grant
INSERT INTO service_grant (
    project_id, user_id, user_name, user_type, type, content, created_at_ms)
VALUES (:project_id, :user_id, :user_name, :user_type, :type, :content, :created_at_ms)

-- name: count_grants
SELECT count(*)
  FROM service_grant
 WHERE project_id = :project_id

-- name: list_grants
-- Of one project: a bounded number.
SELECT user_id, user_name, user_type, type, content, created_at_ms
  FROM service_grant
 WHERE project_id = :project_id

-- name: delete_grant
DELETE FROM service_grant
 WHERE project_id = :project_id
   AND user_id = :user_id

-- name: delete_all_grants
DELETE FROM service_grant
 WHERE project_id = :project_id
