//! Owns the trust in `leaktrace watch`: whose memory keeps growing is told, and nobody else's.
//! Must not know how memory is read.

use crate::harness::{
    agent::{self, Agent},
    kernel,
    workload::Workload,
};

/// A leak of a megabyte a second is told within a minute, with its rate; a program that only churns is
/// not told of, and the stream is one like any other.
#[test]
fn a_leak_is_told_from_churn() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut leaking = Workload::start("storm", &[]);
    let mut churning = Workload::start("storm", &[]);
    for (workload, pace) in [(&mut leaking, "100 1048576"), (&mut churning, "20000 0")] {
        workload.talk.say(pace);
        workload.talk.hear("did");
    }
    let mut watch = agent::program();
    watch.args(["watch", "--interval", "2s"]);
    let mut agent = Agent::run(&mut watch);
    agent.await_stderr("leaktrace: watching ");
    let line = agent.await_process(leaking.pid(), |_| true);
    assert_eq!(line["verdict"], "growing", "{line:#}");
    let speed = line["growth_bytes_per_second"].as_f64().unwrap();
    assert!((700_000.0..1_600_000.0).contains(&speed), "{line:#}");
    assert_eq!(line["coverage"], "none", "{line:#}");
    assert!(
        line.get("live_bytes").is_none(),
        "not covered is not zero: {line:#}"
    );
    let stream = agent.interrupt();
    let told = stream.last();
    assert!(told.iter().any(|it| it.pid() == leaking.pid()));
    assert!(told.iter().all(|it| it.pid() != churning.pid()));
}
