-- name: create_lines
CREATE TABLE line (
    number        INTEGER NOT NULL PRIMARY KEY,
    source        TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    row           BLOB NOT NULL,
    text          BLOB NOT NULL
)

-- name: insert_line
INSERT INTO line (number, source, created_at_ms, row, text)
VALUES (?, ?, ?, ?, ?)

-- name: text_of_line
SELECT text
  FROM line
 WHERE number = ?

-- name: index_sources
-- Made when all lines are there: sorting once costs less than finding a place for each.
CREATE INDEX line_by_source ON line (source, number)

-- name: list_repeated
-- Each line whose source stands in an earlier one, with the first that has it.
SELECT l.number, r.first, l.text
  FROM (SELECT source, min(number) AS first
          FROM line
         GROUP BY source
        HAVING count(*) > 1) AS r
  JOIN line AS l
    ON l.source = r.source
   AND l.number > r.first
 ORDER BY l.number

-- name: delete_line
DELETE FROM line
 WHERE number = ?

-- name: count_lines
SELECT count(*)
  FROM line

-- name: list_lines
SELECT number, row
  FROM line
 ORDER BY created_at_ms, number
