//! Owns the proof that reports tell of goroutines that stay blocked, and which sites' objects they hold.
//! Must not know how the agent sees it.

use std::process::Command;

use serde_json::Value;

use crate::harness::{
    agent::Agent,
    golang::{self, Link},
    kernel,
    workload::Workload,
};

/// The text of the service.
const SERVICE: &str = include_str!("../workloads/go/leaks.go");

/// Goroutines that it leaves behind in a phase.
const BLOCKED: u64 = 200;

/// The line of the service that has this in it.
fn line_of(text: &str) -> u64 {
    let mut lines = (1..).zip(SERVICE.lines());
    lines.find(|(_, line)| line.contains(text)).expect(text).0
}

/// The group of those that wait to be heard.
fn senders(line: &Value) -> Option<&Value> {
    let groups = line["blocked"].as_array()?;
    groups.iter().find(|group| {
        let frames = group["stack"].as_array().unwrap();
        let mut functions = frames.iter().filter_map(|it| it["function"].as_str());
        functions.any(|it| it == "main.(*service).query")
    })
}

/// Senders that nobody hears are counted, with where they are and who made them, since when they have been
/// blocked, and so that the site whose objects they hold says so; one whose objects they do not hold does not.
#[test]
fn blocked_senders_are_told_and_what_they_hold() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    for (version, link) in [("1.22.10", Link::StrippedPie), ("1.27.3", Link::Stripped)] {
        let program = golang::program(version, "leaks", link);
        let mut workload = Workload::run(&mut Command::new(program));
        let pid = workload.pid();
        let mut agent = Agent::trace(&["--pid", &workload.pid_text(), "--interval", "1s"]);
        workload.talk.phase();
        // The first look that finds them does not know how long they have been there.
        agent.await_goroutines(pid, |line| {
            senders(line).is_some_and(|group| group["blocked_count"] == BLOCKED)
        });
        let stream = agent.interrupt();
        let lines = stream.lines.iter();
        let mut of_it = lines.filter(|it| it["type"] == "goroutines");
        let line = of_it.next_back().unwrap();
        assert!(line["count"].as_u64() > Some(BLOCKED), "{line:#}");
        assert!(
            line["states"]["waiting"].as_u64() >= Some(BLOCKED),
            "{line:#}"
        );
        let group = senders(line).unwrap();
        assert_eq!(group["count"], BLOCKED, "{group:#}");
        assert_eq!(group["state"], "waiting");
        assert_eq!(group["wait_reason"], "chan send");
        assert!(group["age_seconds"].as_f64() > Some(0.0));
        let by = &group["created_by"];
        assert_eq!(by["function"], "main.(*service).serve", "{by:#}");
        assert_eq!(by["line"], line_of("go s.query(make(chan []byte))"));
        let created = line["created"].as_array().unwrap();
        let made = created
            .iter()
            .find(|it| it["created_by"]["line"] == by["line"]);
        assert_eq!(made.unwrap()["count"], BLOCKED, "{created:#?}");

        let process = stream.process(pid);
        let at = |text: &str| {
            let number = line_of(text);
            let sites = process.sites.iter();
            sites.filter(move |site| site["stack"][0]["line"] == number)
        };
        let held = |site: &Value, name: &str| {
            // Evidence is told in floats, also where it counts.
            site["evidence"][name].as_f64().map_or(0, |it| it as u64)
        };
        let answers = at("// LEAK: blocked senders");
        let answer = answers.max_by_key(|site| site["live_count"].as_u64());
        let answer = answer.expect("the site of the answers is listed");
        // Addresses are left on other stacks too by what is done with them: where many have one, it counts as shared.
        let nearly_all = BLOCKED - 10..BLOCKED + 50;
        for name in ["blocked_goroutines", "blocked_goroutines_hold_count"] {
            assert!(nearly_all.contains(&held(answer, name)), "{answer:#}");
        }
        let count = held(answer, "blocked_goroutines_hold_count");
        assert_eq!(held(answer, "blocked_goroutines_hold_bytes"), count * 2048);
        for site in at("// LEAK: a map that only grows") {
            assert_eq!(held(site, "blocked_goroutines"), 0, "{site:#}");
        }
        workload.finish();
    }
}

/// The text of the program whose profile is on.
const STUCK: &str = include_str!("../workloads/go/stuck.go");

/// Where sites are told by the program's own profile, those whose objects blocked goroutines hold say so as well, by way
/// of objects that the profile has not sampled, and others do not.
#[test]
fn what_blocked_goroutines_hold_is_told_of_profiles_too() {
    let here = || ();
    if !golang::is_there(here) {
        return;
    }
    let Some(_turn) = kernel::turn(here) else {
        return;
    };
    for (version, link) in [("1.22.10", Link::Stripped), ("1.27.3", Link::StrippedPie)] {
        let program = golang::program(version, "stuck", link);
        let workload = Workload::run(&mut Command::new(program));
        let pid = workload.pid_text();
        let args = ["--interval", "1s", "--sample-bytes", "1MiB"];
        let mut agent = Agent::trace(&[&args[..], &["--pid", &pid]].concat());
        // The first look that finds them does not know how long they have been there.
        agent.await_goroutines(workload.pid(), |line| {
            line["blocked_count"].as_u64() >= Some(64)
        });
        let stream = agent.interrupt();
        let process = stream.process(workload.pid());
        assert_eq!(process.line["go"]["profile_bytes"], 512 << 10);
        let at = |text: &str| {
            let mut lines = (1_u64..).zip(STUCK.lines());
            let number = lines.find(|it| it.1.contains(text)).expect(text).0;
            let mut sites = process.sites.iter();
            let site = sites.find(|site| site["stack"][0]["line"] == number);
            site.unwrap_or_else(|| panic!("{text}: {:#?}", process.sites))
        };
        let held = at("// LEAK: held by blocked senders");
        let figure = |name: &str| held["evidence"][name].as_f64().unwrap_or(0.0);
        // Of 64, each is sampled with a probability of 0.86.
        let holders = figure("blocked_goroutines");
        assert!((40.0..=64.0).contains(&holders), "{version}: {held:#}");
        let live = held["live_bytes"].as_f64().unwrap();
        let share = figure("blocked_goroutines_hold_bytes") / live;
        // One that was not seen to hold its object yet is 0.018.
        assert!((0.8..=1.1).contains(&share), "{version}: {held:#}");
        let innocent = at("// innocent of goroutines");
        let evidence = &innocent["evidence"];
        assert!(evidence.get("blocked_goroutines").is_none(), "{innocent:#}");
        workload.finish();
    }
}
