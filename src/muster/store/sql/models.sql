-- name: count_models
-- Of one project, over all workspaces: a bounded number.
SELECT count(*)
  FROM model
 WHERE project_id = :project_id

-- name: insert_model
INSERT INTO model (
    uid, project_id, workspace_id, name, version, version_rank, type, description, creator_name,
    size_bytes, code, recipe, created_at_ms)
VALUES (
    :uid, :project_id, :workspace_id, :name, :version, :version_rank, :type, :description,
    :creator_name, :size_bytes, :code, :recipe, :created_at_ms)

-- name: find_model
SELECT uid, project_id, workspace_id, name, version, type, description, creator_name, size_bytes,
       recipe, created_at_ms
  FROM model
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_workspace_of_model
SELECT workspace_id
  FROM model
 WHERE uid = :uid
   AND project_id = :project_id

-- name: list_versions_of_model
SELECT uid
  FROM model
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND name = :name
 ORDER BY version

-- name: list_models
-- Of a bounded number; what is long in them is read for the page alone.
SELECT uid, name, version_rank, type, size_bytes, created_at_ms, version, description
  FROM model
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: delete_model
DELETE FROM model
 WHERE uid = :uid
   AND project_id = :project_id
RETURNING code

-- name: find_service_with_model
SELECT s.name
  FROM service_model AS m
  JOIN service AS s
    ON s.id = m.service_id
 WHERE m.model_uid = :uid
 LIMIT 1
