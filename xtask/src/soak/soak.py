"""Owns the soak: `leaktrace watch` beside thousands of short-lived processes, pids that come again, programs that leak and
are started again, stops and clock jumps, scraped by a real Prometheus; its memory and descriptors must stay flat.
Must not know how the agent works.

Arguments: the agent, minutes, a directory for what is left, `clock` where the host's clock may be set, and more options for
the agent."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

AGENT, MINUTES, PLACE = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
MAY_SET_CLOCK = "clock" in sys.argv[4:]
OPTIONS = [it for it in sys.argv[4:] if it != "clock"]
LISTEN, PROMETHEUS = 19500, 19590

# It leaks a MiB a second for some 80 seconds and is then started again with the same arguments.
LEAKER = "import time\nkept=[]\nfor _ in range(80): kept.append(bytearray(b'x'*(1<<20))); time.sleep(1)"

# After the first quarter everything has been met that there is. From then on no more than noise may come.
RISE_MIB, RISE_SHARE, RISE_FDS = 12, 0.15, 24

is_over = threading.Event()
counts = {"processes": 0, "reused_pids": 0, "restarts": 0, "stops": 0, "clock_jumps": 0}


def churn():
    """Short-lived processes, some of which get the pid of one that has just ended."""
    last_pid = pathlib.Path("/proc/sys/kernel/ns_last_pid")
    seen = set()
    while not is_over.is_set():
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        counts["processes"] += 1
        counts["reused_pids"] += child.pid in seen
        seen.add(child.pid)
        if counts["processes"] % 10 == 0:
            try:
                last_pid.write_text(str(child.pid - 1))
            except OSError:
                pass
        if counts["processes"] % 40 == 0:
            # Some live long enough to be looked at.
            subprocess.Popen(["/bin/sleep", "4"])
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break
        time.sleep(0.01)


def leak():
    """A program that leaks until it ends, and comes back."""
    while not is_over.is_set():
        child = subprocess.Popen([sys.executable, "-c", LEAKER])
        while child.poll() is None and not is_over.is_set():
            time.sleep(0.2)
        child.kill()
        child.wait()
        counts["restarts"] += 1
        is_over.wait(3)


def disturb(agent):
    """Stops the agent for a while, as a host that sleeps does, and sets the clock where that is allowed."""
    while not is_over.wait(45):
        agent.send_signal(signal.SIGSTOP)
        is_over.wait(8)
        agent.send_signal(signal.SIGCONT)
        counts["stops"] += 1
        agent.send_signal(signal.SIGHUP)
        if MAY_SET_CLOCK:
            for jump in (3600, -3600):
                time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + jump)
                counts["clock_jumps"] += 1
                is_over.wait(3)


def start_prometheus():
    config = PLACE / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 5s}\n"
        "scrape_configs:\n- job_name: leaktrace\n  static_configs: [{targets: ['127.0.0.1:%d']}]\n" % LISTEN
    )
    return subprocess.Popen(
        [
            shutil.which("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={PLACE / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=(PLACE / "prometheus.log").open("w"),
    )


def ask(query):
    url = f"http://127.0.0.1:{PROMETHEUS}/api/v1/query?query={urllib.parse.quote(query)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)["data"]["result"]


def look(pid):
    """Resident MiB that no file backs, descriptors and threads. Files that are mapped are the kernel's cache: they come with
    what the host runs, and go when it needs the room."""
    process = pathlib.Path(f"/proc/{pid}")
    resident, shared = map(int, (process / "statm").read_text().split()[1:3])
    pages = resident - shared
    return pages * 4096 / (1 << 20), len(os.listdir(process / "fd")), len(os.listdir(process / "task"))


def judge(looks):
    """What rose from the second quarter to the last."""
    quarter = max(len(looks) // 4, 1)
    early, late = looks[quarter : 2 * quarter], looks[-quarter:]
    most = lambda part, index: max(it[index] for it in part)
    figures = [(name, most(early, index), most(late, index)) for index, name in enumerate(("MiB", "descriptors", "threads"))]
    for name, before, after in figures:
        print(f"soak: {name}: {before:.1f} at most in the second quarter, {after:.1f} in the last")
    mib, fds, threads = figures
    problems = []
    if mib[2] > mib[1] * (1 + RISE_SHARE) + RISE_MIB:
        problems.append("its memory rises")
    if fds[2] > fds[1] + RISE_FDS:
        problems.append("its descriptors rise")
    if threads[2] > threads[1] + 4:
        problems.append("its threads rise")
    return problems


def main():
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    stream = PLACE / "watch.ndjson"
    agent = subprocess.Popen(
        [AGENT, "watch", "--interval", "10s", "--look-every", "1s", "--state", str(PLACE / "state.json"),
         "--listen", f"127.0.0.1:{LISTEN}", *OPTIONS],
        stdout=stream.open("w"), stderr=(PLACE / "watch.log").open("w"),
    )
    prometheus = start_prometheus()
    threads = [threading.Thread(target=it, args=args, daemon=True) for it, args in
               ((churn, ()), (leak, ()), (disturb, (agent,)))]
    problems, looks = [], []
    try:
        time.sleep(10)
        for thread in threads:
            thread.start()
        end = time.monotonic() + MINUTES * 60
        while time.monotonic() < end:
            if agent.poll() is not None:
                raise SystemExit(f"soak: the agent ended by itself ({agent.returncode}): see {PLACE / 'watch.log'}")
            looks.append(look(agent.pid))
            if len(looks) % 12 == 1:
                mib, fds, count = looks[-1]
                print(f"soak: {mib:.1f} MiB, {fds} descriptors, {count} threads; {counts}", flush=True)
            time.sleep(5)
        series = ask('count({job="leaktrace"})')
        scrapes = ask('count_over_time(up{job="leaktrace"}[12h])')
        good = ask('sum_over_time(up{job="leaktrace"}[12h])')
        growing = ask('leaktrace_process_verdict{verdict="growing"} == 1')
        figure = lambda result: int(float(result[0]["value"][1])) if result else 0
        print(f"soak: Prometheus scraped {figure(scrapes)} times, {figure(good)} of them well; {figure(series)} series now, "
              f"{len(growing)} processes growing")
        # While the agent is stopped it answers nobody.
        if figure(good) < figure(scrapes) * 0.6 or not 0 < figure(series) < 20_000:
            problems.append("Prometheus is not served well")
    finally:
        is_over.set()
        for thread in threads:
            if thread.is_alive():
                thread.join(30)
        agent.send_signal(signal.SIGCONT)
        agent.send_signal(signal.SIGTERM)
        code = agent.wait(120)
        prometheus.terminate()
        prometheus.wait()
    problems += judge(looks)
    lines = [json.loads(line) for line in stream.open()]
    kinds = {kind: sum(it["type"] == kind for it in lines) for kind in sorted({it["type"] for it in lines})}
    print(f"soak: {counts}\nsoak: exit code {code}, lines {kinds}, {lines[-1].get('report_count')} reports")
    if code != 0 or lines[-1]["type"] != "end" or kinds.get("cgroup", 0) == 0 and os.path.exists("/sys/fs/cgroup/memory.current"):
        problems.append("the stream has no good end")
    if lines[-1].get("report_count", 0) < MINUTES * 60 / 10 * 0.5:
        problems.append("reports are missing")
    back = [it for it in lines if it["type"] == "process" and "started again" in it.get("coverage_reason", "")]
    print(f"soak: {len(back)} lines tell of a program that came back")
    if counts["restarts"] > 3 and not back:
        problems.append("restarts were not noticed")
    for problem in problems:
        print(f"soak: FAILED: {problem}")
    return bool(problems)


sys.exit(main())
