"""Owns a run of the DaemonSet's pod on a real container runtime, by CRI as a kubelet does it, beside pods that leak.
Must not know how the agent or the manifests are built: both come as files.

Usage: pods.py WORK MANIFEST AGENT_IMAGE SECCOMP_PROFILE SCOPE SECONDS LEAKER..., where SCOPE is `host` (the
manifest's own command) or `pods` (`trace` with the pods as targets), each leaker as NAME=FILE[,FILE_IN_IMAGE=FILE...]; WORK has
the pod's log and the runtime's after the run.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid

import grpc
import yaml

import images
import prometheus

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
api, services = grpc.protos_and_services("cri.proto")

NODE = "node-7"
PORT = 9664
# Where the agent's pod listens: on the node's network, unless told otherwise.
ADDRESS = "127.0.0.1"
TOKEN = "0123456789abcdef0123456789abcdef"
PAUSE = "localhost/pause:1"
CONFIG = """version = 2
root = "{lab}/root"
state = "{lab}/run"
[grpc]
  address = "{lab}/cri.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%s"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{lab}/cni"
""" % PAUSE


def eventually(what, ask, seconds=60):
    """Asks until the answer is true, and gives it."""
    end = time.time() + seconds
    while time.time() < end:
        try:
            answer = ask()
        except OSError:
            answer = None
        if answer:
            return answer
        time.sleep(0.2)
    raise SystemExit(f"pods: {what} did not happen within {seconds} s")


def write(path, text):
    """Makes a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class Runtime:
    """containerd with a root, state and socket of its own."""

    def __init__(self, lab, log):
        self.lab = lab
        config = os.path.join(lab, "config.toml")
        write(config, CONFIG.format(lab=lab))
        self.process = subprocess.Popen(["containerd", "-c", config], stdout=log, stderr=log)
        self.socket = os.path.join(lab, "cri.sock")
        self.run = services.RuntimeServiceStub(grpc.insecure_channel("unix://" + self.socket))
        eventually("containerd", self.is_there)

    def is_there(self):
        """Whether CRI answers."""
        try:
            self.run.ListPodSandbox(api.Empty(), timeout=5)
            return True
        except grpc.RpcError:
            return False

    def load(self, archive):
        """Brings an image of an archive."""
        ctr = ["ctr", "-a", self.socket, "-n", "k8s.io", "images", "import", archive]
        subprocess.run(ctr, check=True, stdout=subprocess.DEVNULL)

    def start(self, namespace, pod, container):
        """Starts a pod with one container; gives the container's id and the pod's."""
        uid = str(uuid.uuid4())
        labels = {
            "io.kubernetes.pod.name": pod,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
            "app.kubernetes.io/name": pod.rsplit("-", 1)[0],
        }
        logs = os.path.join(self.lab, "logs", pod)
        os.makedirs(logs)
        spaces = container.linux.security_context.namespace_options
        config = api.PodConfig(
            metadata=api.PodMetadata(name=pod, uid=uid, namespace=namespace),
            labels=labels,
            log_directory=logs,
            linux=api.LinuxPod(
                cgroup_parent=f"/kubepods/burstable/pod{uid}",
                security_context=api.PodSecurity(namespace_options=spaces),
            ),
        )
        sandbox = self.run.RunPodSandbox(api.RunPodSandboxRequest(config=config)).id
        container.labels.update({**labels, "io.kubernetes.container.name": container.metadata.name})
        container.annotations.update({"io.kubernetes.container.restartCount": "0"})
        container.log_path = container.metadata.name + ".log"
        request = api.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=container, sandbox_config=config
        )
        made = self.run.CreateContainer(request)
        self.run.StartContainer(made)
        return made.id, sandbox, os.path.join(logs, container.log_path)

    def remove(self, sandbox):
        """Ends a pod and takes it away."""
        self.run.StopPodSandbox(api.PodId(id=sandbox))
        self.run.RemovePodSandbox(api.PodId(id=sandbox))

    def end(self):
        """Takes all pods away and ends the runtime."""
        for pod in self.run.ListPodSandbox(api.Empty()).items:
            self.remove(pod.id)
        self.process.terminate()
        self.process.wait()


def leaker(name):
    """A container that nothing is said about."""
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name=name),
        image=api.Image(image=f"localhost/{name}:1"),
        linux=api.LinuxContainer(
            security_context=api.Security(namespace_options=api.Namespaces(network=2, pid=1))
        ),
    )


def security(pod, container, seccomp):
    """A manifest's security contexts in CRI's words, as a kubelet puts them."""
    said = container["securityContext"]
    profile = said["seccompProfile"]
    types = {"RuntimeDefault": 0, "Unconfined": 1, "Localhost": 2}
    return api.Security(
        capabilities=api.Capabilities(
            add_capabilities=said["capabilities"]["add"],
            drop_capabilities=said["capabilities"]["drop"],
        ),
        privileged=said["privileged"],
        # The node's network in place of the pod's own, which needs a network plugin.
        namespace_options=api.Namespaces(network=2, pid=2 if pod["hostPID"] else 1),
        run_as_user=api.Number(value=said["runAsUser"]),
        run_as_group=api.Number(value=said["runAsGroup"]),
        readonly_rootfs=said["readOnlyRootFilesystem"],
        no_new_privs=not said["allowPrivilegeEscalation"],
        seccomp=api.Seccomp(
            profile_type=types[profile["type"]],
            localhost_ref=seccomp if profile["type"] == "Localhost" else "",
        ),
    )


def provide(lab, volume, config):
    """Makes what a volume of the manifest shows; gives its path on the node."""
    path = os.path.join(lab, "volumes", volume["name"])
    os.makedirs(path)
    if "hostPath" in volume:
        if volume["name"] == "tracing":
            subprocess.run(["mount", "-t", "tracefs", "tracefs", path], check=True)
    elif "configMap" in volume:
        for item in volume["configMap"]["items"]:
            write(os.path.join(path, item["path"]), config[item["key"]])
    elif "secret" in volume:
        token = os.path.join(path, "token")
        write(token, TOKEN)
        os.chmod(token, volume["secret"]["defaultMode"])
    return path


def parts(manifest):
    """The DaemonSet's pod, and its settings."""
    kinds = {}
    for document in yaml.safe_load_all(open(manifest, encoding="utf-8")):
        kinds[document["kind"]] = document
    return kinds["DaemonSet"]["spec"]["template"], kinds["ConfigMap"]["data"]


def agent(lab, manifest, image, seccomp, targets):
    """The DaemonSet's container, with all that its manifest says, and its targets."""
    template, config = parts(manifest)
    pod = template["spec"]
    # A run here is short, and whatever else runs on this machine must not have the probes taken out.
    changed = {"LEAKTRACE_INTERVAL": "5s"}
    if targets:
        changed["LEAKTRACE_MAX_OVERHEAD"] = "100%"
    config = {**config, **changed}
    container = pod["containers"][0]
    environment = {key: value for key, value in config.items() if key.isupper()}
    for entry in container["env"]:
        environment[entry["name"]] = entry.get("value", NODE)
    arguments = list(container["args"])
    if targets:
        arguments = ["trace", "--format=json"] + arguments[1:] + [f"--pod={it}" for it in targets]
    for key, value in environment.items():
        arguments = [argument.replace(f"$({key})", value) for argument in arguments]
    volumes = {volume["name"]: provide(lab, volume, config) for volume in pod["volumes"]}
    mounts = [
        api.Mount(
            container_path=mount["mountPath"],
            host_path=volumes[mount["name"]],
            readonly=mount.get("readOnly", False),
        )
        for mount in container["volumeMounts"]
    ]
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name=container["name"]),
        image=api.Image(image=image),
        args=arguments,
        envs=[api.KeyValue(key=key, value=value) for key, value in environment.items()],
        mounts=mounts,
        linux=api.LinuxContainer(
            resources=api.Resources(memory_limit_in_bytes=1 << 30, cpu_shares=51),
            security_context=security(pod, container, seccomp),
        ),
    )


def ask(path, token=None):
    """The status and text of an answer of the agent."""
    request = urllib.request.Request(f"http://{ADDRESS}:{PORT}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def lines_of(log):
    """The objects in a log file of the runtime, whose lines are joined as a collector does it."""
    text = ""
    for line in open(log, encoding="utf-8"):
        _, stream, tag, rest = line.rstrip("\n").split(" ", 3)
        if stream == "stdout":
            text += rest
            if tag == "F":
                yield json.loads(text)
                text = ""


def who(line):
    """The names that a line of the stream tells."""
    k8s = line.get("k8s", {})
    return (
        k8s.get("namespace", {}).get("name"),
        k8s.get("pod", {}).get("name"),
        k8s.get("container", {}).get("name"),
        k8s.get("node", {}).get("name"),
        line.get("container", {}).get("runtime"),
        line.get("container", {}).get("id"),
    )


def judge(log, started, gone):
    """Compares what the stream tells of the pods with what was started."""
    failures = []
    lines = list(lines_of(log))
    reports = max(line.get("report", 0) for line in lines)
    for name, (namespace, pod, container) in started.items():
        expected = (namespace, pod, name, NODE, "containerd", container)
        own = [line for line in lines if line.get("container", {}).get("id") == container]
        processes = [line for line in own if line["type"] == "process"]
        sites = [line for line in own if line["type"] == "site"]
        wrong = [line for line in own if who(line) != expected]
        verdicts = {line.get("verdict", "none") for line in processes}
        live = max((line.get("live_bytes", 0) for line in processes), default=0)
        functions = {frame.get("function") for line in sites for frame in line["stack"]}
        leaking = {"keep_forever", "main.keepForever"} & functions
        print(
            f"{namespace}/{pod} {name}: {len(processes)} process and {len(sites)} site lines, all named: "
            f"{not wrong}, live {live}, verdicts {sorted(verdicts)}, site in {sorted(leaking)}"
        )
        # A host that is busy otherwise costs more than is allowed: probes come out, or none go in, and both are told.
        reasons = [line.get("coverage_reason", "") for line in processes]
        is_too_dear = any("cost more than allowed" in reason for reason in reasons)
        was_out = is_too_dear or all("probes were out" in reason for reason in reasons[1:])
        if is_too_dear:
            print(f"{name}: this host is too busy for what a trace may cost: judged from outside alone")
        # Memory is watched for a minute before there are probes, and the pod that is gone was not there so long.
        is_seen = sites and leaking and live >= 100_000 or name == gone
        if not processes or wrong or not (is_seen or was_out):
            failures.append(f"{name}: {wrong[:1]}")
        if name == gone and max(line["report"] for line in processes) >= reports - 2:
            failures.append(f"{name} is told of long after its end")
    return failures, reports


def main():
    """One run; exits with 1 where something is not as it should be."""
    work, manifest, image, seccomp, scope, seconds, *leakers = sys.argv[1:]
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    # Sockets have short paths.
    lab = tempfile.mkdtemp(prefix="leaktrace-pods-")
    runtime = None
    try:
        with open(os.path.join(work, "containerd.log"), "wb") as log:
            runtime = Runtime(lab, log)
            failures = run(runtime, work, (manifest, image, seccomp), scope, int(seconds), leakers)
    finally:
        if runtime:
            runtime.end()
        subprocess.run(["umount", os.path.join(lab, "volumes/tracing")], check=False)
        shutil.rmtree(lab, ignore_errors=True)
        images.remove_groups()
    for failure in failures:
        print("FAILED", failure)
    sys.exit(1 if failures else 0)


def load_all(runtime, image, leakers):
    """Brings the agent's image, and makes and brings those of programs; gives their names."""
    runtime.load(image)
    for word in leakers:
        name, *files = word.split(",")
        archive = os.path.join(runtime.lab, name + ".tar")
        images.pack(f"localhost/{name}:1", dict(file.split("=") for file in files), archive)
        runtime.load(archive)
        yield name


def run(runtime, work, files, scope, seconds, leakers):
    """Starts everything, waits, and tells what is not as it should be."""
    manifest, image, seccomp = files
    started, sandboxes = {}, {}
    for name in load_all(runtime, image, leakers):
        if name == "pause":
            continue
        pod = f"cart-{name}"
        container, sandboxes[name], _ = runtime.start("shop", pod, leaker(name))
        started[name] = ("shop", pod, container)
    targets = [f"shop/{pod}" for _, pod, _ in started.values()] if scope == "pods" else []
    container = agent(runtime.lab, manifest, images.name_of(image), seccomp, targets)
    began = time.time()
    _, _, log = runtime.start("leaktrace", "leaktrace-x7k", container)
    kept = os.path.join(work, "agent.log")
    try:
        failures = probes(began)
        time.sleep(seconds / 2)
        gone = list(started)[0]
        runtime.remove(sandboxes[gone])
        time.sleep(seconds / 2)
        failures += served(work)
    finally:
        shutil.copy(log, kept)
    wrong, reports = judge(log, started, gone)
    print(f"{reports} reports; the agent's log is {kept}")
    return failures + wrong


def probes(began):
    """What the manifest's probes are answered."""
    eventually("/healthz", lambda: ask("/healthz")[0] == 200)
    eventually("/readyz", lambda: ask("/readyz")[0] == 200, 300)
    print(f"/healthz and /readyz answer 200, {time.time() - began:.1f} s after the pod's start")
    return [] if ask("/metrics")[0] == 401 else ["/metrics is told without a token"]


def served(work):
    """Whether the figures carry the pods' names, and whether Prometheus can do with them what is asked of it."""
    status, metrics = ask("/metrics", TOKEN)
    named = [line for line in metrics.splitlines() if 'namespace="shop"' in line]
    print(f"/metrics: {status}, {len(named)} series of namespace shop")
    wrong = [] if status == 200 and named else ["/metrics does not name the pods"]
    return wrong + prometheus.judge(work, f"{ADDRESS}:{PORT}", TOKEN, eventually)


if __name__ == "__main__":
    main()
