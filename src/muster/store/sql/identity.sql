-- name: insert_account
INSERT INTO account (id, name)
VALUES (:id, :name)

-- name: insert_project
INSERT INTO project (id, name, account_id, is_default)
VALUES (:id, :name, :account_id, :is_default)

-- name: insert_workspace
INSERT INTO workspace (project_id, id, name, created_at_ms, updated_at_ms)
VALUES (:project_id, :id, :name, :now_ms, :now_ms)

-- name: insert_member
INSERT INTO member (id, name, account_id, password_hash)
VALUES (:id, :name, :account_id, :password_hash)

-- name: insert_membership
INSERT INTO membership (member_id, project_id, role, is_default, may_prioritise)
VALUES (:member_id, :project_id, :role, :is_default, :may_prioritise)

-- name: update_membership
-- What is NULL stays.
UPDATE membership
   SET role = :role, may_prioritise = coalesce(:may_prioritise, may_prioritise)
 WHERE member_id = :member_id
   AND project_id = :project_id

-- name: delete_membership
DELETE FROM membership
 WHERE member_id = :member_id
   AND project_id = :project_id

-- name: delete_workspace_roles_of
DELETE FROM workspace_role
 WHERE member_id = :member_id
   AND project_id = :project_id

-- name: count_memberships
SELECT count(*)
  FROM membership
 WHERE project_id = :project_id

-- name: list_memberships
-- Of everybody, users without any included.
SELECT u.id, u.name, u.is_enabled, p.id, p.name, m.role, m.may_prioritise
  FROM member AS u
  LEFT JOIN membership AS m
    ON m.member_id = u.id
  LEFT JOIN project AS p
    ON p.id = m.project_id
 ORDER BY u.name, p.name

-- name: insert_access_key
INSERT INTO access_key (access, secret_sealed, member_id, created_at_ms)
VALUES (:access, :secret_sealed, :member_id, :now_ms)

-- name: find_account
SELECT id, name
  FROM account
 ORDER BY id
 LIMIT 1

-- name: find_project
-- By id or by name: the two never look alike, an id is 32 hex digits.
SELECT p.id, p.name, a.id, a.name
  FROM project AS p
  JOIN account AS a
    ON a.id = p.account_id
 WHERE p.id = :project
    OR p.name = :project

-- name: list_projects
SELECT p.id, p.name, a.id, a.name
  FROM project AS p
  JOIN account AS a
    ON a.id = p.account_id
 ORDER BY p.name

-- name: list_projects_of
SELECT p.id, p.name, a.id, a.name
  FROM project AS p
  JOIN account AS a
    ON a.id = p.account_id
  JOIN membership AS m
    ON m.project_id = p.id
 WHERE m.member_id = :member_id
 ORDER BY m.is_default DESC, p.name

-- name: find_member
-- By id, or by name within an account that is named by its id or its name.
SELECT u.id, u.name, u.password_hash, a.id, a.name
  FROM member AS u
  JOIN account AS a
    ON a.id = u.account_id
 WHERE u.is_enabled = 1
   AND (u.id = :id
        OR (u.name = :name AND (a.id = :account OR a.name = :account)))

-- name: find_membership
SELECT role, may_prioritise
  FROM membership
 WHERE member_id = :member_id
   AND project_id = :project_id

-- name: list_special_workspaces
-- Where a member may be something else than in the project, with the grants that are for it: by id,
-- or where that is empty by name.
SELECT w.id, w.name, w.auth_type, w.owner_id, r.role, g.user_id, g.user_name
  FROM workspace AS w
  LEFT JOIN workspace_role AS r
    ON r.project_id = w.project_id
   AND r.workspace_id = w.id
   AND r.member_id = :member_id
  LEFT JOIN workspace_grant AS g
    ON g.project_id = w.project_id
   AND g.workspace_id = w.id
   AND (g.user_id = :member_id OR (g.user_id = '' AND g.user_name = :member_name))
 WHERE w.project_id = :project_id
   AND (w.auth_type <> 'PUBLIC' OR r.role IS NOT NULL)

-- name: find_member_by_name
-- Whether it is enabled or not.
SELECT u.id, u.name, u.password_hash, a.id, a.name
  FROM member AS u
  JOIN account AS a
    ON a.id = u.account_id
 WHERE u.name = :name

-- name: enable_member
UPDATE member
   SET is_enabled = :is_enabled
 WHERE id = :member_id

-- name: list_access_keys
-- Of one user, or of all.
SELECT k.access, u.name, k.is_enabled, k.created_at_ms
  FROM access_key AS k
  JOIN member AS u
    ON u.id = k.member_id
 WHERE CAST(:member_id AS text) IS NULL
    OR k.member_id = :member_id
 ORDER BY u.name, k.created_at_ms, k.access

-- name: enable_access_key
UPDATE access_key
   SET is_enabled = :is_enabled
 WHERE access = :access

-- name: delete_access_key
DELETE FROM access_key
 WHERE access = :access

-- name: insert_temporary_key
INSERT INTO temporary_key (
    access, secret_sealed, token_digest, member_id, project_id, expires_at_ms)
VALUES (:access, :secret_sealed, :token_digest, :member_id, :project_id, :expires_at_ms)

-- name: delete_expired_temporary_keys
DELETE FROM temporary_key
 WHERE expires_at_ms < :before_ms

-- name: find_temporary_key
SELECT k.secret_sealed, k.token_digest, k.member_id, u.name, k.project_id, k.expires_at_ms
  FROM temporary_key AS k
  JOIN member AS u
    ON u.id = k.member_id
 WHERE k.access = :access
   AND u.is_enabled = 1

-- name: insert_token
INSERT INTO token (digest, member_id, project_id, issued_at_ms, expires_at_ms)
VALUES (:digest, :member_id, :project_id, :issued_at_ms, :expires_at_ms)

-- name: delete_expired_tokens
DELETE FROM token
 WHERE expires_at_ms < :before_ms

-- name: find_token
SELECT t.member_id, u.name, t.project_id, m.role, t.issued_at_ms, t.expires_at_ms
  FROM token AS t
  JOIN member AS u
    ON u.id = t.member_id
  LEFT JOIN membership AS m
    ON m.member_id = t.member_id
   AND m.project_id = t.project_id
 WHERE t.digest = :digest
   AND u.is_enabled = 1

-- name: delete_token
DELETE FROM token
 WHERE digest = :digest

-- name: find_access_key
SELECT k.secret_sealed, k.member_id, u.name
  FROM access_key AS k
  JOIN member AS u
    ON u.id = k.member_id
 WHERE k.access = :access
   AND k.is_enabled = 1
   AND u.is_enabled = 1
