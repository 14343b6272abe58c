-- name: count_networks
-- Of one project: a bounded number.
SELECT count(*)
  FROM network
 WHERE project_id = :project_id

-- name: insert_network
INSERT INTO network (
    name, project_id, workspace_id, display_name, annotations, spec, created_at_ms)
VALUES (:name, :project_id, :workspace_id, :display_name, :annotations, :spec, :created_at_ms)

-- name: update_network
UPDATE network
   SET workspace_id = :workspace_id, annotations = :annotations, spec = :spec
 WHERE name = :name

-- name: delete_network
DELETE FROM network
 WHERE name = :name

-- name: find_network
SELECT name, project_id, workspace_id, display_name, annotations, spec, created_at_ms
  FROM network
 WHERE name = :name
   AND project_id = :project_id

-- name: list_networks
-- Of one project: a bounded number.
SELECT name, project_id, workspace_id, display_name, annotations, spec, created_at_ms
  FROM network
 WHERE project_id = :project_id
 ORDER BY display_name
