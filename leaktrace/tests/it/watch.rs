//! Owns the trust in `leaktrace watch`: whose memory keeps growing is told, and nobody else's.
//! Must not know how memory is read.

use crate::harness::{
    agent::{self, Agent},
    kernel,
    workload::Workload,
};

/// A program that does so many pairs a second, and leaks so many bytes.
fn storm(pace: &str) -> Workload {
    let mut workload = Workload::start("storm", &[]);
    workload.talk.say(pace);
    workload.talk.hear("did");
    workload
}

/// A leak of a megabyte a second is told, with its rate; a program that only churns is not taken for one, and
/// what is not probed is not called zero.
#[test]
fn a_leak_is_told_from_churn() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let leaking = storm("100 1048576");
    let churning = storm("20000 0");
    let mut watch = agent::program();
    watch.args(["watch", "--interval", "1s", "--look-every", "500ms"]);
    watch.args(["--processes", "100000"]);
    let mut agent = Agent::run(&mut watch);
    agent.await_stderr("leaktrace: watching ");
    let line = agent.await_process(leaking.pid(), |line| line["verdict"] == "growing");
    let speed = line["growth_bytes_per_second"].as_f64().unwrap();
    assert!((500_000.0..2_000_000.0).contains(&speed), "{line:#}");
    let stream = agent.interrupt();
    assert_eq!(stream.lines[0]["mode"], "watch");
    let churn = stream.process(churning.pid());
    assert_eq!(churn.line["verdict"], "stable", "{:#}", churn.line);
    assert_eq!(churn.line["coverage"], "none", "{:#}", churn.line);
    assert_eq!(churn.accuracy(), "lossy");
    assert!(churn.line.get("live_bytes").is_none(), "{:#}", churn.line);
}
