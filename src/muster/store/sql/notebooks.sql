-- name: count_notebooks
-- Of one project, over all workspaces: a bounded number.
SELECT count(*)
  FROM notebook
 WHERE project_id = :project_id

-- name: insert_notebook
INSERT INTO notebook (
    uid, project_id, workspace_id, name, description, feature, user_id, user_name, flavor_code,
    custom_spec, image_uid, pool_id, volume, token, lease, tags, status, fail_reason, note,
    server_version, last_active_ms, created_at_ms, updated_at_ms, workload_id, revision)
VALUES (
    :uid, :project_id, :workspace_id, :name, :description, :feature, :user_id, :user_name,
    :flavor_code, :custom_spec, :image_uid, :pool_id, :volume, :token, :lease, :tags, :status,
    :fail_reason, :note, :server_version, :last_active_ms, :created_at_ms, :updated_at_ms,
    :workload_id, 0)
RETURNING id

-- name: update_notebook
-- Touches no row when somebody else changed it first.
UPDATE notebook
   SET name = :name, description = :description, flavor_code = :flavor_code,
       custom_spec = :custom_spec, image_uid = :image_uid, volume = :volume, lease = :lease,
       tags = :tags, status = :status, fail_reason = :fail_reason, note = :note,
       server_version = :server_version, last_active_ms = :last_active_ms,
       updated_at_ms = :updated_at_ms, workload_id = :workload_id, revision = revision + 1
 WHERE id = :id
   AND revision = :revision

-- name: delete_notebook
DELETE FROM notebook
 WHERE id = :id

-- name: find_notebook
SELECT n.id, n.uid, n.project_id, n.workspace_id, n.name, n.description, n.feature, n.user_id,
       n.user_name, n.flavor_code, n.custom_spec, n.image_uid, n.pool_id, n.volume, n.token,
       n.lease, n.tags, n.status, n.fail_reason, n.note, n.server_version, n.last_active_ms,
       n.created_at_ms, n.updated_at_ms, n.workload_id, n.revision, w.phase, w.message,
       w.attempt_id, w.is_holding, w.phase_since_ms
  FROM notebook AS n
  LEFT JOIN workload AS w
    ON w.id = n.workload_id
 WHERE n.uid = :uid

-- name: list_notebooks
-- All that a page is made of, a bounded number: sorted and cut to the page by who asks.
SELECT n.id, n.uid, n.project_id, n.workspace_id, n.name, n.description, n.feature, n.user_id,
       n.user_name, n.flavor_code, n.custom_spec, n.image_uid, n.pool_id, n.volume, n.token,
       n.lease, n.tags, n.status, n.fail_reason, n.note, n.server_version, n.last_active_ms,
       n.created_at_ms, n.updated_at_ms, n.workload_id, n.revision, w.phase, w.message,
       w.attempt_id, w.is_holding, w.phase_since_ms
  FROM notebook AS n
  LEFT JOIN workload AS w
    ON w.id = n.workload_id
 WHERE n.project_id = :project_id
   AND n.workspace_id = :workspace_id

-- name: list_live_notebooks
-- What the keeper looks after; the words are those of the index.
SELECT n.id, n.uid, n.project_id, n.workspace_id, n.name, n.description, n.feature, n.user_id,
       n.user_name, n.flavor_code, n.custom_spec, n.image_uid, n.pool_id, n.volume, n.token,
       n.lease, n.tags, n.status, n.fail_reason, n.note, n.server_version, n.last_active_ms,
       n.created_at_ms, n.updated_at_ms, n.workload_id, n.revision, w.phase, w.message,
       w.attempt_id, w.is_holding, w.phase_since_ms
  FROM notebook AS n
  LEFT JOIN workload AS w
    ON w.id = n.workload_id
 WHERE n.status IN ('CREATING', 'STARTING', 'RUNNING', 'STOPPING', 'ERROR', 'DELETING')
 ORDER BY n.id
 LIMIT :limit

-- name: find_workspace_of_notebook
SELECT workspace_id
  FROM notebook
 WHERE uid = :uid
   AND project_id = :project_id

-- name: image_is_in_use
SELECT 1
  FROM notebook
 WHERE project_id = :project_id
   AND image_uid = :image_uid
 LIMIT 1

-- name: insert_image
INSERT INTO image (
    uid, project_id, workspace_id, namespace, name, tag, interpreter, description, arch,
    service_type, resource_categories, visibility, user_name, created_at_ms, updated_at_ms)
VALUES (
    :uid, :project_id, :workspace_id, :namespace, :name, :tag, :interpreter, :description, :arch,
    :service_type, :resource_categories, :visibility, :user_name, :created_at_ms, :updated_at_ms)

-- name: update_interpreter
UPDATE image
   SET interpreter = :interpreter, updated_at_ms = :updated_at_ms
 WHERE uid = :uid
   AND project_id = :project_id

-- name: delete_image
DELETE FROM image
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_image
SELECT uid, project_id, workspace_id, namespace, name, tag, interpreter, description, arch,
       service_type, resource_categories, visibility, user_name, created_at_ms, updated_at_ms
  FROM image
 WHERE uid = :uid
   AND project_id = :project_id

-- name: list_images
-- Of one project: a bounded number.
SELECT uid, project_id, workspace_id, namespace, name, tag, interpreter, description, arch,
       service_type, resource_categories, visibility, user_name, created_at_ms, updated_at_ms
  FROM image
 WHERE project_id = :project_id

-- name: find_workspace_of_image
SELECT workspace_id
  FROM image
 WHERE uid = :uid
   AND project_id = :project_id
