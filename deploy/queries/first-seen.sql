-- When and where each leak was first judged to be one, newest first: what came with the last roll-out.
SELECT
    s.site AS site, min(s.function) AS allocated_in, min(s.module_build_id) AS build,
    min(s.time) AS first_seen, min(s.host_name) AS a_node,
    count(DISTINCT s.host_id) AS nodes
FROM sites AS s
WHERE s.verdict = 'growing'
GROUP BY s.site
ORDER BY first_seen DESC, site
LIMIT 50;
