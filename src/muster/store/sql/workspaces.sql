-- name: insert_workspace
INSERT INTO workspace (
    project_id, id, name, description, auth_type, owner_id, owner_name, enterprise_project_id,
    created_at_ms, updated_at_ms)
VALUES (
    :project_id, :id, :name, :description, :auth_type, :owner_id, :owner_name,
    :enterprise_project_id, :created_at_ms, :updated_at_ms)

-- name: update_workspace
UPDATE workspace
   SET name = :name, description = :description, auth_type = :auth_type,
       updated_at_ms = :updated_at_ms
 WHERE project_id = :project_id
   AND id = :id

-- name: list_workspaces
-- Of one project: a bounded number.
SELECT id, name, description, auth_type, owner_id, owner_name, enterprise_project_id,
       created_at_ms, updated_at_ms
  FROM workspace
 WHERE project_id = :project_id

-- name: find_workspace
SELECT id, name, description, auth_type, owner_id, owner_name, enterprise_project_id,
       created_at_ms, updated_at_ms
  FROM workspace
 WHERE project_id = :project_id
   AND id = :workspace_id

-- name: count_workspaces
SELECT count(*)
  FROM workspace
 WHERE project_id = :project_id

-- name: delete_workspace
DELETE FROM workspace
 WHERE project_id = :project_id
   AND id = :workspace_id

-- name: list_grants
SELECT user_id, user_name, user_type
  FROM workspace_grant
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
 ORDER BY position

-- name: insert_grant
INSERT INTO workspace_grant (project_id, workspace_id, position, user_id, user_name, user_type)
VALUES (:project_id, :workspace_id, :position, :user_id, :user_name, :user_type)

-- name: delete_grants
DELETE FROM workspace_grant
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: put_role
INSERT INTO workspace_role (project_id, workspace_id, member_id, role)
VALUES (:project_id, :workspace_id, :member_id, :role)
ON CONFLICT (project_id, workspace_id, member_id) DO UPDATE SET role = excluded.role

-- name: delete_role
DELETE FROM workspace_role
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND member_id = :member_id

-- name: delete_roles
DELETE FROM workspace_role
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: list_roles
SELECT u.name, w.id, w.name, r.role
  FROM workspace_role AS r
  JOIN workspace AS w
    ON w.project_id = r.project_id
   AND w.id = r.workspace_id
  JOIN member AS u
    ON u.id = r.member_id
 WHERE r.project_id = :project_id
 ORDER BY u.name, w.name

-- name: list_quotas
SELECT resource, quota, updated_at_ms
  FROM workspace_quota
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: put_quota
INSERT INTO workspace_quota (project_id, workspace_id, resource, quota, updated_at_ms)
VALUES (:project_id, :workspace_id, :resource, :quota, :now_ms)
ON CONFLICT (project_id, workspace_id, resource)
DO UPDATE SET quota = excluded.quota, updated_at_ms = excluded.updated_at_ms

-- name: delete_quotas
DELETE FROM workspace_quota
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: find_use
SELECT workload_count, cpu_millis, memory_mib, gpu_count, npu_count
  FROM workspace_use
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND type = :type

-- name: delete_uses
DELETE FROM workspace_use
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: count_pool_nodes
-- What the lines of its pools ask for, there already or not.
SELECT coalesce(sum(l.node_count), 0)
  FROM pool AS p
  JOIN pool_line AS l
    ON l.pool_id = p.id
 WHERE p.project_id = :project_id
   AND p.workspace_id = :workspace_id
   AND p.is_deleted = 0
   AND p.phase <> 'CreationFailed'

-- name: count_contents
-- What keeps a workspace from being deleted. Deleted jobs count until the last process has ended.
SELECT (SELECT coalesce(sum(count), 0)
          FROM job_total
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT coalesce(sum(workload_count), 0)
          FROM workspace_use
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM pool
         WHERE project_id = :project_id AND workspace_id = :workspace_id AND is_deleted = 0),
       (SELECT count(*)
          FROM algorithm
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM notebook
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM image
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM model
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM service
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM visualization
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM experiment
         WHERE project_id = :project_id AND workspace_id = :workspace_id),
       (SELECT count(*)
          FROM network
         WHERE project_id = :project_id AND workspace_id = :workspace_id)

-- name: find_workspace_of_job
SELECT workspace_id
  FROM job
 WHERE id = :job_id
   AND project_id = :project_id
   AND is_deleted = 0

-- name: find_workspace_of_workload
SELECT v.workspace_id
  FROM workload AS w
  JOIN version AS v
    ON v.workload_id = w.id
 WHERE w.uid = :uid
   AND w.project_id = :project_id
   AND v.is_deleted = 0

-- name: find_workspace_of_pool
SELECT workspace_id
  FROM pool
 WHERE id = :pool_id
   AND project_id = :project_id
   AND is_deleted = 0
