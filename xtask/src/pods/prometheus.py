"""Owns what a real Prometheus makes of the agent's figures: whether it takes them, and what the alert rules and the panels of
the dashboard answer. Must not know how the agent came to run."""

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request

PORT = 10260
CONFIG = """global: {{scrape_interval: 2s, evaluation_interval: 2s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: leaktrace
    honor_labels: true
    authorization: {{credentials: "{token}"}}
    static_configs: [{{targets: ["{target}"]}}]
"""
# What may have no answer: no event was lost, or no process is probed just now, since its leak was found.
MAY_BE_EMPTY = ["Lost events", "What tracing costs, of one CPU"]


def get(path, **parameters):
    """What the API answers."""
    words = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/v1/{path}?{words}", timeout=10) as answer:
        return json.load(answer)["data"]


def is_up():
    """Whether the agent was scraped."""
    targets = get("targets")["activeTargets"]
    return bool(targets) and targets[0]["health"] == "up"


def judge(work, target, token, eventually):
    """Scrapes a target, and tells what rules and panels have to say about it that is wrong."""
    config = os.path.join(work, "prometheus.yml")
    rules = os.path.abspath("deploy/pipelines/alerts.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(rules=rules, token=token, target=target))
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={os.path.join(work, 'prometheus')}",
        f"--web.listen-address=127.0.0.1:{PORT}",
        "--log.level=warn",
    ]
    with open(os.path.join(work, "prometheus.log"), "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually("a scrape by Prometheus", is_up, 120)
        # Rules are evaluated and a rate has its two points.
        time.sleep(8)
        return list(wrong_rules()) + list(wrong_panels())
    finally:
        server.terminate()
        server.wait()


def wrong_rules():
    """Rules that could not be evaluated."""
    rules = [rule for group in get("rules")["groups"] for rule in group["rules"]]
    print(f"Prometheus: {len(rules)} alert rules: {sorted({rule['health'] for rule in rules})}")
    for rule in rules:
        if rule["health"] != "ok":
            yield f"alert {rule['name']}: {rule}"


def wrong_panels():
    """Panels whose query fails or has no answer."""
    with open("deploy/pipelines/grafana-dashboard.json", encoding="utf-8") as file:
        dashboard = json.load(file)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            name = variable["name"]
            values = get(f"label/{name}/values", **{"match[]": "leaktrace_process_resident_bytes"})
            print(f"Prometheus: ${name}: {values}")
            if "shop" not in values and name == "namespace":
                yield f"the variable {name} has the values {values}"
    for panel in dashboard["panels"]:
        for query in panel["targets"]:
            # As Grafana puts in `All`.
            text = query["expr"].replace("$namespace", ".*").replace("$pod", ".*")
            count = len(get("query", query=text)["result"])
            print(f"Prometheus: {panel['title']}: {count} series")
            if not count and panel["title"] not in MAY_BE_EMPTY:
                yield f"the panel {panel['title']} is empty: {text}"
