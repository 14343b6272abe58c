-- name: insert_account
INSERT INTO account (id, name)
VALUES (:id, :name)

-- name: insert_project
INSERT INTO project (id, name, account_id, is_default)
VALUES (:id, :name, :account_id, :is_default)

-- name: insert_workspace
INSERT INTO workspace (project_id, id, name, created_at_ms)
VALUES (:project_id, :id, :name, :now_ms)

-- name: insert_member
INSERT INTO member (id, name, account_id, password_hash)
VALUES (:id, :name, :account_id, :password_hash)

-- name: insert_membership
INSERT INTO membership (member_id, project_id, role, is_default)
VALUES (:member_id, :project_id, :role, :is_default)

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

-- name: find_role
SELECT role
  FROM membership
 WHERE member_id = :member_id
   AND project_id = :project_id

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
