-- Whether a build brought a leak: live bytes by program and build, and how many of its processes grow.
SELECT
    executable AS program, build_id AS build,
    count(DISTINCT concat(host_id, ' ', CAST(pid AS VARCHAR), ' ', start_time)) AS processes,
    count(DISTINCT CASE WHEN verdict = 'growing'
        THEN concat(host_id, ' ', CAST(pid AS VARCHAR), ' ', start_time) END) AS growing,
    min(time) AS first_seen,
    max(live_bytes) AS live_bytes_max
FROM processes
GROUP BY executable, build_id
ORDER BY growing DESC, live_bytes_max DESC, program, build
LIMIT 50;
