-- The fleet's top leaks: one row a site, whatever the node, because a site's id is the same wherever
-- the same build allocates in the same place.
WITH latest AS (
    SELECT host_id, pid, start_time, site, max(report) AS report
    FROM sites
    GROUP BY host_id, pid, start_time, site
)
SELECT
    s.site AS site,
    min(s.function) AS allocated_in,
    min(p.executable) AS program,
    min(p.build_id) AS build,
    count(DISTINCT s.host_id) AS nodes,
    count(DISTINCT concat(s.namespace, '/', s.pod)) AS pods,
    sum(s.live_bytes) AS live_bytes,
    round(sum(s.growth_bytes_per_second) * 3600) AS growth_bytes_per_hour
FROM sites AS s
JOIN latest AS l
    ON s.host_id = l.host_id AND s.pid = l.pid AND s.start_time = l.start_time
    AND s.site = l.site AND s.report = l.report
JOIN processes AS p
    ON p.host_id = s.host_id AND p.pid = s.pid AND p.start_time = s.start_time
    AND p.report = s.report
WHERE s.verdict = 'growing'
GROUP BY s.site
ORDER BY growth_bytes_per_hour DESC, site
LIMIT 20;
