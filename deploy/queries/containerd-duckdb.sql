-- Writes the stream out of containerd's log files, whose lines have a time, a stream and a tag before them.
-- A line of ours is shorter than what containerd splits at, so its tag is always F. Set before:
--   SET VARIABLE logs = '/var/log/pods/leaktrace_*/leaktrace/*.log'; SET VARIABLE stream = 'stream.ndjson';
COPY (
    SELECT regexp_extract(line, '^[^ ]+ stdout F ([{].*)$', 1) AS line
    FROM read_csv(
        getvariable('logs'), columns = {'line': 'VARCHAR'}, header = false,
        delim = E'\x01', quote = '', escape = '', max_line_size = 1048576
    )
    WHERE regexp_matches(line, '^[^ ]+ stdout F [{]')
) TO (getvariable('stream')) (FORMAT csv, HEADER false, DELIMITER E'\x01', QUOTE '', ESCAPE '');
