-- name: jobs_beside_the_search
-- The index of the search is one of the table itself.
SELECT id
  FROM job
 WHERE false

-- name: cards_dealt_twice
SELECT n.host_name, c.value, count(*)
  FROM node AS n
 CROSS JOIN LATERAL json_each(n.cards) AS c
 GROUP BY n.host_name, c.value
HAVING count(*) > 1
