"""Owns the soak: `leaktrace watch` beside thousands of short-lived processes, pids that come again, programs that leak and
are started again, programs that nobody has seen before, and stops, scraped by a real Prometheus; its memory and descriptors
must stay flat.
Must not know how the agent works.

Arguments: the agent, minutes, a directory for what is left, and more options for the agent."""

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

import judge

AGENT, MINUTES, PLACE, *OPTIONS = sys.argv[1:]
MINUTES, PLACE = float(MINUTES), pathlib.Path(PLACE)
LISTEN, PROMETHEUS = 19500, 19590

# It leaks a MiB a second for some 80 seconds and is then started again with the same arguments.
LEAKER = "import time\nkept=[]\nfor _ in range(80): kept.append(bytearray(b'x'*(1<<20))); time.sleep(1)"

# Each is another program, with so many functions and their debug info, that leaks for so long, and so many run at once.
FUNCTIONS, LIFE_SECONDS, STRANGERS = 400, 60, 2

# Who is watched: what others run on the host while this goes on, and how much of it has probes, is none of the soak's.
WATCHED = ["true", "sleep", "python3*", "stranger-*"]

# So often the agent is told to let go of what it can make again.
PAUSE_SECONDS = 20

# What `deploy/docs/scale.md` says that `watch` may take, and how much more descriptors and threads may come after the warm-up.
CEILING_MIB, RISE_FDS, RISE_THREADS = 512, 24, 4

is_over = threading.Event()
counts = {"processes": 0, "reused_pids": 0, "restarts": 0, "strangers": 0, "stops": 0, "hangups": 0}


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


def stranger(number):
    """The source of a program that leaks some MiB a second by 40 of its functions, and is like no other."""
    lines = ["#include <stdlib.h>", "#include <string.h>", "#include <time.h>", "static void *kept;"]
    for index in range(FUNCTIONS):
        lines.append(f"struct s{number}_{index} {{ struct s{number}_{index} *next; int field_{index}[{index % 7 + 1}]; char text[2000]; }};")
        lines.append(f"__attribute__((noinline)) void *make_{number}_{index}(int rounds) {{ struct s{number}_{index} *it = "
                     f"malloc(sizeof *it); memset(it, {index % 255}, sizeof *it); it->next = (void *)kept; kept = it; "
                     f"return rounds > {number} ? it->next : it; }}")
    lines.append(f"int main(void) {{ struct timespec pause = {{0, 50000000}}; for (int i = 0; i < {LIFE_SECONDS * 20}; i++) {{")
    lines += [f"make_{number}_{index}(i);" for index in range(0, FUNCTIONS, FUNCTIONS // 40)]
    lines.append("nanosleep(&pause, 0); } return 0; }")
    return "\n".join(lines)


def be_strange():
    """Programs that nobody has seen before: each is built, leaks, ends and is deleted."""
    running = []
    while not is_over.wait(LIFE_SECONDS / STRANGERS):
        counts["strangers"] += 1
        program = PLACE / f"stranger-{counts['strangers']}"
        source = program.with_suffix(".c")
        source.write_text(stranger(counts["strangers"]))
        subprocess.run(["cc", "-g", "-O0", "-o", program, source], check=True)
        running.append((subprocess.Popen([program]), program))
        source.unlink()
        for child, program in [it for it in running if it[0].poll() is not None]:
            program.unlink()
            running.remove((child, program))
    for child, _ in running:
        child.kill()
        child.wait()


def disturb(agent):
    """Has the agent let go of what it can make again, and every other time stops it first, as a host that sleeps does."""
    while not is_over.wait(PAUSE_SECONDS):
        if counts["hangups"] % 2 == 1:
            agent.send_signal(signal.SIGSTOP)
            is_over.wait(8)
            agent.send_signal(signal.SIGCONT)
            counts["stops"] += 1
        agent.send_signal(signal.SIGHUP)
        counts["hangups"] += 1


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


def own_mib(pid):
    """Resident MiB that no file backs. Files that are mapped are the kernel's cache: they come with what the host runs, and go
    when it needs the room; copies of files that are in memory are bounded by themselves."""
    resident, shared = map(int, pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    return (resident - shared) * 4096 / (1 << 20)


def look_closely(agent, least):
    """The least memory of each time between two hangups, and when that was: what is held though nothing is held for later. That
    is so for a moment only, since names are wanted again soon."""
    while not is_over.wait(0.1) and agent.poll() is None:
        seen = (own_mib(agent.pid), time.monotonic())
        least[counts["hangups"]] = min(least.get(counts["hangups"], seen), seen)


def look(pid):
    """Resident MiB of its own, descriptors and threads."""
    process = pathlib.Path(f"/proc/{pid}")
    return own_mib(pid), len(os.listdir(process / "fd")), len(os.listdir(process / "task"))


def problems_of(looks, least):
    """What rose, or took more than it may."""
    # Before the first hangup nothing was let go of, and the last is not over.
    least = [least[index] for index in sorted(least)[1:-1]]
    rise = judge.rise_a_minute([it[1] for it in least], [it[0] for it in least])
    least = [it[0] for it in least]
    peak = max(mib for mib, _, _ in looks)
    print(f"soak: {least[0]:.1f} MiB after the first hangup, {least[-1]:.1f} after the last of {len(least)}: {rise:+.2f} MiB a "
          f"minute after the warm-up; {peak:.1f} MiB at most")
    problems = []
    if rise > judge.RISE_MIB_A_MINUTE:
        problems.append("its memory rises")
    if peak > CEILING_MIB:
        problems.append("it takes more memory than it may")
    third = len(looks) // 3
    for index, name, most in ((1, "descriptors", RISE_FDS), (2, "threads", RISE_THREADS)):
        early, late = (max(it[index] for it in part) for part in (looks[third:2 * third], looks[-third:]))
        print(f"soak: {name}: {early} at most in the second third, {late} in the last")
        if late > early + most:
            problems.append(f"its {name} rise")
    return problems


def main():
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    stream = PLACE / "watch.ndjson"
    agent = subprocess.Popen(
        [AGENT, "watch", *(word for name in WATCHED for word in ("--comm", name)), "--interval", "10s", "--look-every", "1s", "--state", str(PLACE / "state.json"),
         "--listen", f"127.0.0.1:{LISTEN}", *OPTIONS],
        stdout=stream.open("w"), stderr=(PLACE / "watch.log").open("w"),
    )
    prometheus = start_prometheus()
    problems, looks, least = [], [], {}
    threads = [threading.Thread(target=it, args=args, daemon=True) for it, args in
               ((churn, ()), (leak, ()), (be_strange, ()), (disturb, (agent,)),
                (look_closely, (agent, least)))]
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
    (PLACE / "looks.json").write_text(json.dumps({"looks": looks, "least": least}))
    problems += problems_of(looks, least)
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
