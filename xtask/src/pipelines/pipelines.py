"""Owns a run of the log pipelines: one stream through containerd's log file and through rsyslog into DuckDB, then as the
streams of many nodes in DuckDB and ClickHouse. Must not know how the stream was made.

Usage: pipelines.py LOG WORK NODES, where LOG is containerd's log file of an agent.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import time

import chdb.session
import duckdb

QUERIES = ["top-leaks", "by-pod", "by-build", "first-seen"]


def read(path):
    """A file's text."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def script(database, name, **variables):
    """Runs one of DuckDB's files, with the variables that it wants."""
    for key, value in variables.items():
        database.execute(f"SET VARIABLE {key} = ?", [value])
    return database.execute(read(f"deploy/queries/{name}.sql"))


def differences(one, other, path=""):
    """Where two values are not the same: kind, and digits of numbers, too."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                yield f"{path}/{key}"
            else:
                yield from differences(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other)):
            yield from differences(*pair, f"{path}/{index}")
    elif isinstance(one, bool) != isinstance(other, bool) or one != other:
        yield f"{path}: {one!r} is not {other!r}"


def objects(path):
    """A stream's lines as objects."""
    return [json.loads(line) for line in read(path).splitlines()]


def by_rsyslog(stream, work):
    """Runs rsyslog with the configuration that is delivered, until it has written as many lines."""
    source = os.path.join(work, "leaktrace.ndjson")
    shutil.copy(stream, source)
    text = read("deploy/pipelines/rsyslog.conf")
    text = text.replace("/var/log/leaktrace", work).replace("/var/spool/rsyslog", work)
    configuration = os.path.join(work, "rsyslog.conf")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(text)
    pid = os.path.join(work, "rsyslog.pid")
    parsed = os.path.join(work, "parsed.ndjson")
    syslog = subprocess.Popen(["rsyslogd", "-n", "-f", configuration, "-i", pid])
    try:
        wanted = read(stream).count("\n")
        end = time.time() + 120
        while time.time() < end:
            if os.path.exists(parsed) and read(parsed).count("\n") >= wanted:
                return parsed
            time.sleep(0.2)
    finally:
        syslog.terminate()
        syslog.wait()
    sys.exit(f"pipelines: rsyslog did not write {wanted} lines within two minutes")


def tables(database, stream):
    """What the two tables hold, in an order of their own."""
    script(database, "load-duckdb", streams=stream)
    return [database.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in ("processes", "sites")]


def simulate(stream, work, nodes):
    """The streams of many nodes, a file each."""
    database = duckdb.connect()
    script(database, "simulate-duckdb", stream=stream, nodes=nodes)
    fleet = os.path.join(work, "fleet")
    os.makedirs(fleet)
    lines = size = 0
    for (node,) in database.execute("SELECT DISTINCT node FROM simulated ORDER BY 1").fetchall():
        own = database.execute("SELECT line FROM simulated WHERE node = ?", [node]).fetchall()
        with open(os.path.join(fleet, node + ".ndjson"), "w", encoding="utf-8") as file:
            for (line,) in own:
                size += file.write(f"{line}\n")
                lines += 1
    print(f"{nodes} nodes: {lines} lines, {size / 1e6:.1f} MB")
    return os.path.join(fleet, "*.ndjson")


def in_duckdb(streams):
    """Loads the fleet and answers the queries."""
    database = duckdb.connect()
    began = time.time()
    script(database, "load-duckdb", streams=streams)
    print(f"DuckDB {duckdb.__version__}: loaded in {time.time() - began:.2f} s")
    return {name: timed("DuckDB", name, lambda: script(database, name).fetchall()) for name in QUERIES}


def in_clickhouse(streams, work):
    """The same in ClickHouse, in this process."""
    session = chdb.session.Session(os.path.join(work, "clickhouse"))
    version = session.query("SELECT version()").data().strip()
    began = time.time()
    # Statements end with a semicolon at a line's end.
    for statement in read("deploy/queries/load-clickhouse.sql").split(";\n"):
        if statement.strip():
            session.query(statement)
    for path in sorted(glob.glob(streams)):
        session.query(f"INSERT INTO lines FROM INFILE '{path}' FORMAT JSONAsString")
    print(f"ClickHouse {version}: loaded in {time.time() - began:.2f} s")

    def ask(name):
        text = read(f"deploy/queries/{name}.sql").rstrip().rstrip(";")
        answer = session.query(text, "JSONCompact").data()
        return [tuple(row) for row in json.loads(answer)["data"]]

    answers = {name: timed("ClickHouse", name, lambda: ask(name)) for name in QUERIES}
    session.close()
    return answers


def timed(engine, name, ask):
    """An answer, whose time is told."""
    began = time.time()
    rows = ask()
    print(f"{engine}: {name}: {len(rows)} rows, {(time.time() - began) * 1e3:.0f} ms")
    return rows


def plain(rows):
    """Rows without what engines write differently: kinds of numbers, and times."""
    return [tuple(str(round(float(it))) if is_number(it) else str(it)[:10] for it in row) for row in rows]


def is_number(value):
    """Whether it is one, or text that is."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def main():
    """One run; exits with 1 where a field or an answer differs."""
    log, work, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    failures = []
    database = duckdb.connect()
    stream = os.path.join(work, "stream.ndjson")
    script(database, "containerd-duckdb", logs=log, stream=stream)
    lines = objects(stream)
    print(f"containerd's log: {len(lines)} lines, the longest {max(map(len, read(stream).splitlines()))} bytes")
    parsed = by_rsyslog(stream, work)
    through = objects(parsed)
    # rsyslog adds nothing but may write in another order.
    wrong = [it for pair in zip(lines, through) for it in differences(*pair)]
    print(f"rsyslog: {len(through)} lines, {len(wrong)} fields that differ")
    failures += wrong[:5]
    if len(lines) != len(through) or tables(database, stream) != tables(database, parsed):
        failures.append("DuckDB reads another thing from rsyslog's file than from containerd's")
    streams = simulate(stream, work, nodes)
    duck, click = in_duckdb(streams), in_clickhouse(streams, work)
    for name in QUERIES:
        if plain(duck[name]) != plain(click[name]):
            failures.append(f"{name}: DuckDB and ClickHouse differ")
    for row in duck["top-leaks"][:3]:
        print("top leak:", row)
        if row[4] != nodes:
            failures.append(f"site {row[0]} was not merged over {nodes} nodes")
    if not duck["top-leaks"]:
        failures.append("no leak in the stream")
    for failure in failures:
        print("FAILED", failure)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
