-- name: put_flavor
INSERT INTO flavor (code)
VALUES (:code)
ON CONFLICT (code) DO NOTHING

-- name: list_flavor_ids
SELECT code, spec_id
  FROM flavor

-- name: put_ai_engine
INSERT INTO ai_engine (name, version)
VALUES (:name, :version)
ON CONFLICT (name, version) DO NOTHING

-- name: list_ai_engine_ids
SELECT name, version, engine_id
  FROM ai_engine
