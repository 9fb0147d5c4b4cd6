//! Owns what reports tell of containers, and the targets that name them, by real control groups.
//! Must not know container runtimes: their names are tried with real ones by hand.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::{
    agent::{self, Agent},
    kernel,
    workload::Workload,
};

/// A control group as Docker makes it, without an engine; removed when dropped.
struct ControlGroup {
    directory: PathBuf,
    /// As `/proc/PID/cgroup` tells it.
    path: String,
    id: String,
}

impl ControlGroup {
    fn make(tag: &str) -> Self {
        let own = std::process::id();
        let id = format!("{own:08x}{}", "5e".repeat(28));
        let path = format!("/leaktrace-{tag}-{own}/docker/{id}");
        let directory = hierarchy().join(&path[1..]);
        fs::create_dir_all(&directory).unwrap();
        Self {
            directory,
            path,
            id,
        }
    }

    fn take(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // From the inside out; a process that has just ended holds it for a moment at the most.
        for directory in self.directory.ancestors().take(3) {
            for _ in 0..100 {
                if fs::remove_dir(directory).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// A hierarchy that takes processes without any preparation: v2's, or one of v1's.
fn hierarchy() -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.procs").exists() {
        return root.to_owned();
    }
    let found = ["unified", "pids", "freezer", "memory"]
        .into_iter()
        .map(|name| root.join(name))
        .find(|directory| directory.join("cgroup.procs").exists());
    found.expect("a hierarchy of control groups is mounted")
}

/// A process in a container's control group is told with the container's id and runtime, and found by
/// its id, by the beginning of it, and by the control group, above it too; others are not traced.
#[test]
fn targets_by_container_and_cgroup() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let group = ControlGroup::make("targets");
    let mut outside = Workload::start("steps", &[]);
    let mut inside = Workload::start("steps", &[]);
    group.take(inside.pid());
    let above = group.path.split("/docker").next().unwrap().to_owned();
    let mounted = group.directory.display().to_string();
    for target in [
        ["--container", &group.id],
        ["--container", &group.id[..12]],
        ["--cgroup", &group.path],
        ["--cgroup", &above],
        ["--cgroup", &mounted],
    ] {
        let agent = Agent::trace(&target);
        for workload in [&mut inside, &mut outside] {
            workload.talk.say("alloc 10 50");
            workload.talk.hear("did ");
        }
        let stream = agent.interrupt();
        let process = stream.process(inside.pid());
        assert_eq!(process.figure("live_count"), 10, "{target:?}");
        let container = &process.line["container"];
        assert_eq!(container["id"], *group.id, "{target:?}");
        assert_eq!(container["runtime"], "docker");
        assert!(process.line.get("k8s").is_none());
        assert_eq!(stream.last().len(), 1, "{target:?}");
    }
    inside.finish();
    outside.finish();
}

/// What does not exist is refused in one line that names it and the remedy.
#[test]
fn wrong_targets_are_refused() {
    for (target, expected) in [
        (["--cgroup", "/no/such.slice"], "no such cgroup"),
        (["--pod", "web-0"], "default/web-0"),
        (["--container", "a/b"], "container's name"),
    ] {
        let ended = Agent::run(agent::program().args(["trace"]).args(target)).wait();
        let refusal = ended.refusal();
        assert!(refusal.contains(expected), "{refusal}");
    }
}
