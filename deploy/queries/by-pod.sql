-- Which pods grow, and through which site most.
SELECT
    namespace, pod, container, host_name AS node, site, min(function) AS allocated_in,
    max(live_bytes) AS live_bytes,
    round(max(growth_bytes_per_second) * 3600) AS growth_bytes_per_hour
FROM sites
WHERE verdict = 'growing' AND pod <> ''
GROUP BY namespace, pod, container, host_name, site
ORDER BY growth_bytes_per_hour DESC, namespace, pod, site
LIMIT 50;
