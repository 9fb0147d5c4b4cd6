-- Makes the streams of many nodes from one saved stream: other hosts, the same builds and so the same
-- sites, bytes that differ. For trying queries out. Set before:
--   SET VARIABLE stream = 'saved.ndjson'; SET VARIABLE nodes = 50;
CREATE OR REPLACE TABLE simulated AS
WITH node AS (
    SELECT number, printf('node-%03d', number) AS name, md5(CAST(number AS VARCHAR)) AS id
    FROM range(CAST(getvariable('nodes') AS BIGINT)) AS numbers(number)
)
SELECT
    node.name AS node,
    json_merge_patch(
        line.json,
        json_object('host', json_object('name', node.name, 'id', node.id)),
        CASE WHEN json_exists(line.json, '$.live_bytes') THEN json_object(
            'live_bytes',
            CAST(json_extract_string(line.json, '$.live_bytes') AS BIGINT)
                * (100 + node.number) // 100) ELSE '{}' END,
        CASE WHEN json_exists(line.json, '$.k8s.pod.name') THEN json_object('k8s', json_object(
            'node', json_object('name', node.name),
            'pod', json_object(
                'name',
                concat(json_extract_string(line.json, '$.k8s.pod.name'), '-', node.number))
        )) ELSE '{}' END
    ) AS line
FROM read_ndjson_objects(getvariable('stream')) AS line, node;
