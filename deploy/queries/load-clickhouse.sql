-- The same two tables for ClickHouse. Run on 26.9.
-- Fill them with
--   clickhouse-client --query "INSERT INTO lines FORMAT JSONAsString" < stream.ndjson
CREATE TABLE IF NOT EXISTS lines (line String) ENGINE = Null;

CREATE TABLE IF NOT EXISTS processes (
    time DateTime64(9, 'UTC'), host_id LowCardinality(String), host_name LowCardinality(String),
    report UInt32, pid UInt32, start_time String, executable LowCardinality(String),
    build_id LowCardinality(String), namespace LowCardinality(String), pod LowCardinality(String),
    container LowCardinality(String), rss_bytes UInt64, live_bytes UInt64,
    verdict LowCardinality(String), coverage LowCardinality(String), accuracy LowCardinality(String)
) ENGINE = MergeTree
PARTITION BY toDate(time) ORDER BY (executable, build_id, host_id, time)
TTL toDateTime(time) + INTERVAL 30 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS processes_in TO processes AS
SELECT
    parseDateTime64BestEffort(JSONExtractString(line, 'time'), 9, 'UTC') AS time,
    JSONExtractString(line, 'host', 'id') AS host_id,
    JSONExtractString(line, 'host', 'name') AS host_name,
    JSONExtractUInt(line, 'report') AS report,
    JSONExtractUInt(line, 'process', 'pid') AS pid,
    JSONExtractString(line, 'process', 'start_time') AS start_time,
    JSONExtractString(line, 'process', 'executable', 'name') AS executable,
    JSONExtractString(line, 'process', 'executable', 'build_id') AS build_id,
    JSONExtractString(line, 'k8s', 'namespace', 'name') AS namespace,
    JSONExtractString(line, 'k8s', 'pod', 'name') AS pod,
    JSONExtractString(line, 'k8s', 'container', 'name') AS container,
    JSONExtractUInt(line, 'rss_bytes') AS rss_bytes,
    JSONExtractUInt(line, 'live_bytes') AS live_bytes,
    JSONExtractString(line, 'verdict') AS verdict,
    JSONExtractString(line, 'coverage') AS coverage,
    JSONExtractString(line, 'accuracy', 'kind') AS accuracy
FROM lines
WHERE JSONExtractString(line, 'type') = 'process';

CREATE TABLE IF NOT EXISTS sites (
    time DateTime64(9, 'UTC'), host_id LowCardinality(String), host_name LowCardinality(String),
    report UInt32, pid UInt32, start_time String, site String, allocator LowCardinality(String),
    namespace LowCardinality(String), pod LowCardinality(String), container LowCardinality(String),
    live_bytes UInt64, live_count UInt64, long_lived_bytes UInt64, verdict LowCardinality(String),
    growth_bytes_per_second Float64, function LowCardinality(String),
    module LowCardinality(String), module_build_id LowCardinality(String)
) ENGINE = MergeTree
PARTITION BY toDate(time) ORDER BY (site, host_id, time)
TTL toDateTime(time) + INTERVAL 30 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS sites_in TO sites AS
SELECT
    parseDateTime64BestEffort(JSONExtractString(line, 'time'), 9, 'UTC') AS time,
    JSONExtractString(line, 'host', 'id') AS host_id,
    JSONExtractString(line, 'host', 'name') AS host_name,
    JSONExtractUInt(line, 'report') AS report,
    JSONExtractUInt(line, 'process', 'pid') AS pid,
    JSONExtractString(line, 'process', 'start_time') AS start_time,
    JSONExtractString(line, 'site', 'id') AS site,
    JSONExtractString(line, 'allocator') AS allocator,
    JSONExtractString(line, 'k8s', 'namespace', 'name') AS namespace,
    JSONExtractString(line, 'k8s', 'pod', 'name') AS pod,
    JSONExtractString(line, 'k8s', 'container', 'name') AS container,
    JSONExtractUInt(line, 'live_bytes') AS live_bytes,
    JSONExtractUInt(line, 'live_count') AS live_count,
    JSONExtractUInt(line, 'long_lived_bytes') AS long_lived_bytes,
    JSONExtractString(line, 'verdict') AS verdict,
    JSONExtractFloat(line, 'growth_bytes_per_second') AS growth_bytes_per_second,
    JSONExtractString(line, 'stack', 1, 'function') AS function,
    JSONExtractString(line, 'stack', 1, 'module') AS module,
    JSONExtractString(line, 'stack', 1, 'build_id') AS module_build_id
FROM lines
WHERE JSONExtractString(line, 'type') = 'site';
