//! Owns the trust in verdicts where they are hard: little leaks under much churn, and what only looks
//! like growth.
//! Must not know how a verdict is reached.

use serde_json::Value;

use crate::harness::{
    agent::Agent,
    kernel,
    stream::{Process, Stream},
    workload::Workload,
};

/// What the site of this function was judged in each report.
fn verdicts(stream: &Stream, pid: u32, function: &str) -> Vec<String> {
    let word = |site: &Value| site["verdict"].as_str().unwrap().to_owned();
    (1..=stream.report_count())
        .flat_map(|number| stream.report(number))
        .filter(|process| process.pid() == pid)
        .filter_map(|process| Some(word(site(&process, function)?)))
        .collect()
}

fn site<'a>(process: &'a Process, function: &str) -> Option<&'a Value> {
    process.sites.iter().find(|site| {
        let frames = site["stack"].as_array().unwrap();
        frames.iter().any(|frame| frame["function"] == function)
    })
}

/// A leak of 1 KiB a second is told from 20 MB a second of churn within 22 seconds, with its rate, and
/// a process that only replaces what is older than the trace is not blamed.
#[test]
fn slow_leaks_are_told_from_churn_and_replacement() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut leaking = Workload::start("aging", &["leak"]);
    let mut replacing = Workload::start("aging", &["replace"]);
    let (leaking_pid, replacing_pid) = (leaking.pid_text(), replacing.pid_text());
    let agent = Agent::trace(&[
        "--pid",
        &leaking_pid,
        "--pid",
        &replacing_pid,
        "--interval",
        "4s",
        "--duration",
        "22s",
    ]);
    leaking.talk.say("go");
    replacing.talk.say("go");
    let stream = agent.wait().stream();

    let process = stream.process(leaking.pid());
    assert_eq!(process.line["verdict"], "growing", "{:#}", process.line);
    let slow = site(&process, "site_slow").expect("it is listed");
    assert_eq!(slow["verdict"], "growing", "{slow:#}");
    assert_eq!(process.sites[0], *slow, "what grows comes first");
    let rate = slow["growth_bytes_per_second"].as_f64().unwrap();
    assert!((820.0..1_230.0).contains(&rate), "{rate} of 1024: {slow:#}");
    let evidence = &slow["evidence"];
    assert!(evidence["trend_confidence"].as_f64().unwrap() > 0.999);
    let left = evidence["seconds_to_exhaustion"].as_f64().unwrap();
    assert!(left > 60.0, "{evidence:#}");
    for pid in [leaking.pid(), replacing.pid()] {
        for function in ["site_churn", "site_replaced"] {
            let said = verdicts(&stream, pid, function);
            assert!(
                !said.contains(&"growing".to_owned()),
                "{function}: {said:?}"
            );
        }
    }
    let replaced = verdicts(&stream, replacing.pid(), "site_replaced");
    assert!(replaced.len() >= 5, "{replaced:?}");
    let early = &verdicts(&stream, leaking.pid(), "site_slow")[0];
    assert_eq!(early, "young", "nobody knows after four seconds");
    leaking.finish();
    replacing.finish();
}
