-- Training jobs by the name of the algorithm that they were made of. What was made of none has no
-- entry here, and is most of them: as a rule that is told without reading any JSON.
CREATE INDEX version_by_algorithm ON version (
    project_id, workspace_id, json_extract(config, '$.algorithm.name'), id, status, pool_id)
    WHERE is_deleted = 0
      AND config <> '{}'
      AND json_extract(config, '$.algorithm.name') IS NOT NULL;
