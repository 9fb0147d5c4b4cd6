//! Owns what a leak does to the exit code, and what a terminal is shown meanwhile.
//! Must not know how a leak is judged.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{
    agent::{self, Agent},
    kernel, programs,
    workload::Workload,
};

/// Long enough for a verdict.
const WATCHED: Duration = Duration::from_secs(24);

/// A leak makes the exit code 1, also of a command; suppressed it makes it 0, and is told as such.
#[test]
fn a_leak_fails_unless_it_is_known() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let known = programs::scratch().join("known-leaks.txt");
    fs::write(&known, "# accepted\nleak:^site_alloc$\n").unwrap();
    let seconds = format!("{}s", WATCHED.as_secs());
    let path = programs::workload("steps");
    let options = ["--fail-on-leak", "--duration", &seconds];
    let (failing, mut talk) = Agent::trace_command(&options, &[path.as_os_str()]);
    let pid = talk.ready();
    let known = known.to_str().unwrap();
    let pid_text = pid.to_string();
    let forgiving = ["--pid", &pid_text, "--suppressions", known];
    let forgiving = Agent::trace(&[&options[..], &forgiving].concat());
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        talk.say("alloc 20 500");
        talk.hear("did ");
        // The pace of the leak: verdicts are of courses over time.
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = forgiving.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let process = ended.stream().process(pid);
    let hidden = &process.line["suppressed"][0];
    assert_eq!(hidden["pattern"], "^site_alloc$", "{:#}", process.line);
    assert_eq!(hidden["live_bytes"], process.line["live_bytes"]);
    assert!(process.sites.is_empty(), "{:#?}", process.sites);
    let ended = failing.wait_alone();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
}

/// Without a leak the option changes nothing.
#[test]
fn no_leak_is_no_failure() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let ended = Agent::spawn(&["trace", "--fail-on-leak", "--", "true"]).wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

/// What a trace with an interval writes on a terminal.
fn on_terminal(workload: &Workload, environment: &[(&str, &str)], extra: &str) -> String {
    let line = format!(
        "stty cols 100 rows 30; exec '{}' trace --pid {} --interval 300ms --duration 1500ms {extra}",
        agent::program().get_program().to_str().unwrap(),
        workload.pid(),
    );
    let said = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:#?}");
    String::from_utf8(said.stdout).unwrap()
}

/// On a terminal each report takes the place of the one before, in colours unless nobody wants them.
#[test]
fn a_terminal_is_redrawn() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("steps", &[]);
    let shown = on_terminal(&workload, &[], "");
    assert_eq!(shown.matches("\x1b[2J").count(), 1, "{shown:?}");
    assert!(shown.matches("\x1b[H").count() >= 3, "{shown:?}");
    assert!(
        shown.contains("\x1b[1mleaktrace report 2\x1b[0m"),
        "{shown:?}"
    );
    let plain = on_terminal(&workload, &[("NO_COLOR", "1")], "");
    assert!(
        plain.contains("leaktrace report 2") && !plain.contains("\x1b[1m"),
        "{plain:?}"
    );
    let always = on_terminal(&workload, &[("NO_COLOR", "1")], "--color always");
    assert!(always.contains("\x1b[1m"), "{always:?}");
    let refused = Command::new("script")
        .args(["-qec"])
        .arg(format!(
            "'{}' trace --format pprof",
            agent::program().get_program().to_str().unwrap()
        ))
        .arg("/dev/null")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--output"), "{said}");
    workload.finish();
}
