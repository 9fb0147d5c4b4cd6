"""Owns a run of the DaemonSet's pod below a real kubelet, on containerd, beside pods that leak. Must not know how any of it
is built. There is no API server: the kubelet reads pods from files, so what the pod would be given by one (its settings,
its token) stands in its file.

Usage: kubelet.py KUBELET WORK MANIFEST AGENT_IMAGE SECCOMP_PROFILE SECONDS LEAKER..., as pods.py has them; WORK has the pod's log,
the kubelet's and the runtime's after the run.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import images
import pods

# What a kubelet sets and does not set back.
SYSCTLS = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
SETTINGS = """kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
address: 127.0.0.1
port: 10257
healthzBindAddress: 127.0.0.1
healthzPort: 10258
readOnlyPort: 10259
staticPodPath: {lab}/manifests
fileCheckFrequency: 2s
cgroupDriver: cgroupfs
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
resolvConf: ""
enableControllerAttachDetach: false
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
evictionHard: {{nodefs.available: "1%", imagefs.available: "1%", memory.available: "50Mi"}}
imageGCHighThresholdPercent: 100
"""
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "lab",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.231.77.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


class Kubelet:
    """A kubelet with a root and pods of its own, on a runtime."""

    def __init__(self, program, lab, socket, log):
        self.lab = lab
        self.before = {name: read_setting(name) for name in SYSCTLS}
        settings = os.path.join(lab, "kubelet.yaml")
        pods.write(settings, SETTINGS.format(lab=lab))
        os.makedirs(os.path.join(lab, "manifests"))
        command = [
            program,
            f"--config={settings}",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{socket}",
            f"--root-dir={lab}/kubelet",
            f"--seccomp-profile-root={lab}/kubelet/seccomp",
            f"--cert-dir={lab}/pki",
            f"--hostname-override={pods.NODE}",
            f"--pod-infra-container-image={pods.PAUSE}",
        ]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def apply(self, pod):
        """Gives it a pod."""
        hidden = os.path.join(self.lab, "pod.json")
        pods.write(hidden, json.dumps(pod))
        os.rename(hidden, self.file_of(pod["metadata"]["name"]))

    def delete(self, name):
        """Takes a pod away."""
        os.remove(self.file_of(name))

    def file_of(self, name):
        """Where its pod is described."""
        return os.path.join(self.lab, "manifests", name + ".json")

    def pods(self):
        """Its pods by name, with their states."""
        with urllib.request.urlopen("http://127.0.0.1:10259/pods", timeout=10) as answer:
            items = json.load(answer)["items"] or []
        return {item["metadata"]["name"].removesuffix("-" + pods.NODE): item for item in items}

    def ready(self, name):
        """A pod's state, once it is ready by its own probes."""
        pod = self.pods().get(name, {})
        conditions = {it["type"]: it["status"] for it in pod.get("status", {}).get("conditions", [])}
        return pod if conditions.get("Ready") == "True" else None

    def end(self):
        """Ends it, and sets back what it set."""
        self.process.terminate()
        self.process.wait()
        for name, value in self.before.items():
            pods.write("/proc/sys/" + name, value)
        # Its root is a mount of its own, with volumes in memory below.
        subprocess.run(["umount", "--recursive", os.path.join(self.lab, "kubelet")], check=False)


def read_setting(name):
    """What the kernel is set to."""
    with open("/proc/sys/" + name, encoding="utf-8") as file:
        return file.read()


def agent(lab, manifest, image):
    """The DaemonSet's pod as a file has it, with what an API server would give it."""
    template, config = pods.parts(manifest)
    pod, container = template["spec"], template["spec"]["containers"][0]
    # A static pod has no account, and no priority of a class.
    for name in ("serviceAccountName", "priorityClassName"):
        del pod[name]
    container["image"] = image
    del container["envFrom"]
    config["LEAKTRACE_INTERVAL"] = "5s"
    settings = [{"name": key, "value": value} for key, value in config.items() if key.isupper()]
    container["env"] = settings + container["env"]
    for volume in pod["volumes"]:
        has_tracefs = os.path.isdir("/sys/kernel/tracing/events")
        if "secret" in volume or volume["name"] == "tracing" and not has_tracefs:
            path = pods.provide(lab, volume, config)
            kind = {"name": volume["name"], "hostPath": {"path": path}}
            volume.clear()
            volume.update(kind)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "leaktrace", "namespace": "leaktrace", "labels": template["metadata"]["labels"]},
        "spec": pod,
    }


def leaker(name):
    """A pod with one container that nothing is said about."""
    container = {"name": name, "image": f"localhost/{name}:1", "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"cart-{name}", "namespace": "shop", "labels": {"app": "cart"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def container_of(pod):
    """The id of a pod's one container."""
    return pod["status"]["containerStatuses"][0]["containerID"].split("//")[1]


def run(kubelet, runtime, work, files, seconds, leakers):
    """Starts everything, waits, and tells what is not as it should be."""
    manifest, image, seccomp = files
    profiles = os.path.join(kubelet.lab, "kubelet/seccomp")
    os.makedirs(profiles, exist_ok=True)
    shutil.copy(seccomp, os.path.join(profiles, "leaktrace.json"))
    names = [name for name in pods.load_all(runtime, image, leakers) if name != "pause"]
    for name in names:
        kubelet.apply(leaker(name))
    started = {}
    for name in names:
        state = pods.eventually(f"pod of {name}", lambda: kubelet.ready(f"cart-{name}"), 180)
        started[name] = ("shop", f"cart-{name}-{pods.NODE}", container_of(state))
    began = time.time()
    kubelet.apply(agent(kubelet.lab, manifest, images.name_of(image)))
    state = pods.eventually("the agent's readiness", lambda: kubelet.ready("leaktrace"), 300)
    pods.ADDRESS = state["status"]["podIP"]
    print(f"ready by the kubelet's probes {time.time() - began:.1f} s after its pod was given, at {pods.ADDRESS}")
    try:
        failures = pods.probes(began)
        time.sleep(seconds / 2)
        gone = names[0]
        kubelet.delete(f"cart-{gone}")
        time.sleep(seconds / 2)
        failures += pods.served(work)
        state = kubelet.pods()["leaktrace"]["status"]["containerStatuses"][0]
        if state["restartCount"]:
            failures.append(f"the agent was restarted: {state}")
    finally:
        log = os.path.join(work, "agent.log")
        for path in glob.glob("/var/log/pods/leaktrace_leaktrace-*/leaktrace/0.log"):
            shutil.copy(path, log)
    wrong, reports = pods.judge(log, started, gone)
    print(f"{reports} reports; the agent's log is {log}")
    return failures + wrong


def main():
    """One run; exits with 1 where something is not as it should be."""
    program, work, manifest, image, seccomp, seconds, *leakers = sys.argv[1:]
    if glob.glob("/var/log/pods/*"):
        sys.exit("kubelet: /var/log/pods is in use: run it where there is no other kubelet")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    # Sockets have short paths.
    lab = tempfile.mkdtemp(prefix="leaktrace-kubelet-")
    os.makedirs(os.path.join(lab, "cni"))
    pods.write(os.path.join(lab, "cni/10-lab.conflist"), json.dumps(NETWORK))
    runtime = kubelet = None
    try:
        with open(os.path.join(work, "containerd.log"), "wb") as log:
            runtime = pods.Runtime(lab, log)
        with open(os.path.join(work, "kubelet.log"), "wb") as log:
            kubelet = Kubelet(program, lab, runtime.socket, log)
        failures = run(kubelet, runtime, work, (manifest, image, seccomp), int(seconds), leakers)
    finally:
        for part in (kubelet, runtime):
            if part:
                part.end()
        subprocess.run(["umount", os.path.join(lab, "volumes/tracing")], check=False, stderr=subprocess.DEVNULL)
        for left in (lab, "/var/log/pods", "/var/log/containers", "/var/lib/cni/networks/lab"):
            shutil.rmtree(left, ignore_errors=True)
        images.remove_groups()
    for failure in failures:
        print("FAILED", failure)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
