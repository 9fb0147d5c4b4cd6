//! Owns what is served by HTTP while a trace runs, as those read it for whom it is made: an orchestrator, Prometheus, Go's tool.
//! Must not know how it is written.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    harness::{PATIENCE, agent::Agent, golang, kernel, programs, workload::Workload},
    pictures::{self, pprof},
    servers,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Asks the agent for a path; gives the status and the body.
fn ask(port: u16, path: &str, token: Option<&str>) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let bearer = bearer.unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: agent\r\n{bearer}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

/// The value of a process's series.
fn series(metrics: &str, name: &str, pid: u32) -> Option<f64> {
    let mut lines = metrics.lines();
    let line = lines.find(|line| {
        line.starts_with(&format!("{name}{{")) && line.contains(&format!("pid=\"{pid}\""))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Prometheus' own tool finds nothing to say against the metrics.
fn assert_prometheus_reads(metrics: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:#?}");
}

/// An orchestrator's probes are answered without a token, figures only with it; Prometheus' tool reads the metrics, Go's
/// the profile, and both tell what the program holds.
#[test]
fn a_trace_is_served() {
    let Some(_turn) = kernel::turn_with("promtool", || ()) else {
        return;
    };
    if !golang::is_there(|| ()) {
        return;
    }
    let token = programs::scratch().join("token");
    let _ = fs::remove_file(&token);
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let mut workload = Workload::start("steps", &[]);
    let (pid, port) = (workload.pid(), servers::free_port());
    let address = format!("127.0.0.1:{port}");
    let mut agent = Agent::trace(&[
        "--pid",
        &workload.pid_text(),
        "--interval",
        "200ms",
        "--listen",
        &address,
        "--token-file",
        token.to_str().unwrap(),
    ]);
    assert_eq!(ask(port, "/healthz", None).0, 200);
    assert_eq!(ask(port, "/readyz", None).0, 200);
    for step in ["alloc 10 50", "alloc 5 60"] {
        workload.talk.say(step);
        workload.talk.hear("did ");
    }
    agent.await_process(pid, |line| line["live_bytes"] == 800);
    let heap = format!("/debug/pprof/heap?pid={pid}");
    for (path, given) in [
        ("/metrics", None),
        (heap.as_str(), None),
        ("/metrics", Some("another")),
    ] {
        assert_eq!(ask(port, path, given).0, 401, "{path}");
    }
    // The line is written first, then the board is shown.
    let deadline = Instant::now() + PATIENCE;
    let metrics = loop {
        let (status, body) = ask(port, "/metrics", Some(TOKEN));
        assert_eq!(status, 200);
        let metrics = String::from_utf8(body).unwrap();
        if series(&metrics, "leaktrace_process_live_bytes", pid) == Some(800.0) {
            break metrics;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_prometheus_reads(&metrics);
    let (status, profile) = ask(port, &heap, Some(TOKEN));
    assert_eq!(status, 200);
    let path = programs::scratch().join("served.pb.gz");
    fs::write(&path, profile).unwrap();
    let arguments = [
        "-top",
        "-unit=B",
        "-nodefraction=0",
        "-sample_index=inuse_space",
    ];
    let top = pprof(pictures::TOOLS[1], &path, &arguments);
    assert!(top.contains("of 800B total"), "{top}");
    assert_eq!(ask(port, "/debug/pprof/heap?pid=1", Some(TOKEN)).0, 404);
    agent.interrupt();
    workload.finish();
}
