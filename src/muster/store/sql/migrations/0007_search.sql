-- How many jobs of a workspace have a part in their names is told by the search alone: what it finds
-- was looked up in `job`, one by one, for the workspace and for what is deleted.

-- Jobs of one workspace have numbers of their own in the search, one after the other: the number of
-- their place, and behind it, in 40 bits, their id.
CREATE TABLE job_search_place (
    number       INTEGER PRIMARY KEY,
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    UNIQUE (project_id, workspace_id)
);
INSERT INTO job_search_place (project_id, workspace_id)
SELECT DISTINCT project_id, workspace_id
  FROM job;

DROP TRIGGER job_searchable;
DROP TRIGGER job_not_searchable;
DROP TABLE job_search;
CREATE VIRTUAL TABLE job_search USING fts5 (
    name, content = '', tokenize = 'trigram case_sensitive 1');
-- In the order of its numbers: anything else is written out in many small parts.
INSERT INTO job_search (rowid, name)
SELECT (p.number << 40) + j.id, lower(j.name)
  FROM job_search_place AS p
 CROSS JOIN job AS j INDEXED BY job_by_id
    ON j.project_id = p.project_id
   AND j.workspace_id = p.workspace_id
   AND j.is_deleted = 0
   AND j.id <= (SELECT id FROM job_search_mark)
 ORDER BY p.number, j.id;

-- It learns 256 jobs at a time, as before, but none that has been deleted meanwhile.
CREATE TRIGGER job_searchable AFTER INSERT ON job
    WHEN new.id >= (SELECT id FROM job_search_mark) + 256
BEGIN
    INSERT INTO job_search_place (project_id, workspace_id)
    SELECT DISTINCT j.project_id, j.workspace_id
      FROM job AS j
     WHERE j.id > (SELECT id FROM job_search_mark)
       AND j.id <= new.id
       AND NOT EXISTS (SELECT 1
                         FROM job_search_place AS p
                        WHERE p.project_id = j.project_id
                          AND p.workspace_id = j.workspace_id);
    INSERT INTO job_search (rowid, name)
    SELECT (p.number << 40) + j.id, lower(j.name)
      FROM job AS j
     CROSS JOIN job_search_place AS p
        ON p.project_id = j.project_id
       AND p.workspace_id = j.workspace_id
     WHERE j.id > (SELECT id FROM job_search_mark)
       AND j.id <= new.id
       AND j.is_deleted = 0
     ORDER BY 1;
    UPDATE job_search_mark SET id = new.id;
END;
-- A job that is deleted is found no more, and is never brought back.
CREATE TRIGGER job_hidden AFTER UPDATE OF is_deleted ON job
    WHEN old.is_deleted = 0 AND new.is_deleted = 1
         AND old.id <= (SELECT id FROM job_search_mark)
BEGIN
    INSERT INTO job_search (job_search, rowid, name)
    SELECT 'delete', (p.number << 40) + old.id, lower(old.name)
      FROM job_search_place AS p
     WHERE p.project_id = old.project_id
       AND p.workspace_id = old.workspace_id;
END;
CREATE TRIGGER job_not_searchable AFTER DELETE ON job
    WHEN old.is_deleted = 0 AND old.id <= (SELECT id FROM job_search_mark)
BEGIN
    INSERT INTO job_search (job_search, rowid, name)
    SELECT 'delete', (p.number << 40) + old.id, lower(old.name)
      FROM job_search_place AS p
     WHERE p.project_id = old.project_id
       AND p.workspace_id = old.workspace_id;
END;
