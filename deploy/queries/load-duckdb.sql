-- Reads streams of any number of nodes into two flat tables. Set the files before:
--   SET VARIABLE streams = '/var/log/leaktrace/*.ndjson';
-- Integers of the stream stay below 2^53 and ids are strings, so nothing is rounded on the way.
CREATE OR REPLACE TEMP VIEW lines AS
SELECT *
FROM read_json(getvariable('streams'), format = 'newline_delimited', columns = {
    'type': 'VARCHAR', 'time': 'TIMESTAMP', 'report': 'BIGINT',
    'host': 'STRUCT(name VARCHAR, id VARCHAR)',
    'process': 'STRUCT(pid BIGINT, start_time VARCHAR,
                       executable STRUCT(name VARCHAR, path VARCHAR, build_id VARCHAR))',
    'container': 'STRUCT(id VARCHAR, name VARCHAR, runtime VARCHAR)',
    'k8s': 'STRUCT("namespace" STRUCT(name VARCHAR), pod STRUCT(name VARCHAR, uid VARCHAR),
                   container STRUCT(name VARCHAR), node STRUCT(name VARCHAR))',
    'site': 'STRUCT(id VARCHAR)', 'allocator': 'VARCHAR', 'verdict': 'VARCHAR',
    'live_bytes': 'BIGINT', 'live_count': 'BIGINT', 'long_lived_bytes': 'BIGINT',
    'allocated_bytes': 'BIGINT', 'rss_bytes': 'BIGINT', 'growth_bytes_per_second': 'DOUBLE',
    'coverage': 'VARCHAR', 'accuracy': 'STRUCT(kind VARCHAR, sample_bytes BIGINT)',
    'stack': 'STRUCT("function" VARCHAR, file VARCHAR, line BIGINT, module VARCHAR,
                     build_id VARCHAR, address VARCHAR)[]'
});

CREATE OR REPLACE TABLE processes AS
SELECT
    time, host.id AS host_id, host.name AS host_name, report,
    process.pid AS pid, process.start_time AS start_time,
    process.executable.name AS executable, coalesce(process.executable.build_id, '') AS build_id,
    coalesce(k8s.namespace.name, '') AS namespace, coalesce(k8s.pod.name, '') AS pod,
    coalesce(k8s.container.name, container.name, '') AS container,
    coalesce(rss_bytes, 0) AS rss_bytes, coalesce(live_bytes, 0) AS live_bytes, verdict, coverage,
    accuracy.kind AS accuracy
FROM lines
WHERE type = 'process';

CREATE OR REPLACE TABLE sites AS
SELECT
    time, host.id AS host_id, host.name AS host_name, report,
    process.pid AS pid, process.start_time AS start_time, site.id AS site, allocator,
    coalesce(k8s.namespace.name, '') AS namespace, coalesce(k8s.pod.name, '') AS pod,
    coalesce(k8s.container.name, container.name, '') AS container,
    live_bytes, live_count, long_lived_bytes, verdict,
    coalesce(growth_bytes_per_second, 0) AS growth_bytes_per_second,
    coalesce(stack[1].function, stack[1].module || '+' || stack[1].address, '?') AS function,
    coalesce(stack[1].module, '') AS module, coalesce(stack[1].build_id, '') AS module_build_id
FROM lines
WHERE type = 'site';
