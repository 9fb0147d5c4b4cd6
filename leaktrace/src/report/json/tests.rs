//! Owns the tests that the stream keeps its promises for any report.
//! Must not know how a line is cut.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{JsonStream, LINE_BYTES};
use crate::report::diff::compare;
use crate::report::escape::is_deceptive;
use crate::report::model::{Cgroup, Course, Frame, Report};
use crate::report::samples::{self, Random};
use crate::report::snapshot::Snapshot;

/// The schema that is part of the product.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let text = include_str!("../../../schema/leaktrace-1.schema.json");
    jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
});

/// Every line of a stream, after all that must hold for each of them.
fn lines(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let check = |line: &str| {
        assert!(line.len() + 1 < LINE_BYTES, "{} bytes: {line}", line.len());
        assert!(
            !line.contains(is_deceptive) && !line.contains("null"),
            "{line}"
        );
        let value: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<_> = SCHEMA.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        value
    };
    text.lines().map(check).collect()
}

fn report_lines(report: &Report) -> Vec<Value> {
    let mut out = Vec::new();
    JsonStream::new(samples::host()).report(report, &mut out);
    lines(&out)
}

/// One line of each type, all valid.
fn run() -> Vec<Value> {
    let stream = JsonStream::new(samples::host());
    let mut out = Vec::new();
    stream.start(&samples::start(), &mut out);
    stream.report(&samples::rich(), &mut out);
    stream.end(&samples::end(), &mut out);
    lines(&out)
}

/// A run is told in order: each process before its sites, losses last.
#[test]
fn lines_come_in_order() {
    let types: Vec<_> = run()
        .iter()
        .map(|line| line["type"].as_str().unwrap().to_owned())
        .collect();
    let want = "start process site site process site process site process site process process \
                loss end";
    assert_eq!(types.join(" "), want);
}

/// A control group has its line before the losses, with what it has and no more.
#[test]
fn cgroups_are_told() {
    let mut report = samples::rich();
    report.cgroups = vec![Cgroup {
        path: "/a\u{1b}b".into(),
        limit_bytes: Some(1 << 30),
        oom_kill_count: 3,
        growth_bytes_per_second: Some(f64::NAN),
        container: report.processes[1].container.clone(),
        k8s: report.processes[1].k8s.clone(),
        ..Cgroup::default()
    }];
    let lines = report_lines(&report);
    let line = &lines[lines.len() - 2];
    assert_eq!(line["type"], "cgroup");
    assert_eq!(line["oom_kill_count"], 3);
    assert_eq!(line["verdict"], "young");
    assert_eq!(line["container"], lines[3]["container"]);
    assert!(line.get("growth_bytes_per_second").is_none());
}

/// For any input, every line is short, valid and safe to show.
#[test]
fn any_report_makes_valid_lines() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let stream = JsonStream::new(random.host());
        let mut out = Vec::new();
        stream.start(&random.start(), &mut out);
        stream.report(&random.report(), &mut out);
        stream.end(&random.end(), &mut out);
        lines(&out);
    }
}

/// The longest of everything at once still makes a line with a stack and with
/// allocators: no field starves another.
#[test]
fn the_worst_of_everything_fits() {
    for worst in ["\u{1}", "🦀", "\u{e0041}", "\"", "a"] {
        let long = worst.repeat(5_000);
        let mut report = samples::rich();
        report.number = u32::MAX;
        let process = &mut report.processes[1];
        for text in [
            &mut process.executable.name,
            &mut process.executable.path,
            &mut process.command_line,
            &mut process.owner,
        ] {
            text.clone_from(&long);
        }
        process.executable.build_id = Some(long.clone());
        process.coverage_reason = Some(long.clone());
        let container = process.container.as_mut().unwrap();
        container.id.clone_from(&long);
        container.name = Some(long.clone());
        container.runtime = Some(long.clone());
        let allocator = &mut process.allocators[1];
        allocator.name.clone_from(&long);
        allocator.path.clone_from(&long);
        allocator.entry_points = vec![long.clone(); 20];
        process.allocators = vec![process.allocators[1].clone(); 5];
        let site = &mut process.sites[0];
        site.allocator.clone_from(&long);
        site.stack_truncated = Some(long.clone());
        site.age_histogram = vec![samples::rich().processes[0].sites[0].age_histogram[1]; 500];
        let frame = Frame {
            function: Some(long.clone()),
            file: Some(long.clone()),
            module: Some(long.clone()),
            build_id: Some(long.clone()),
            address: u64::MAX,
            ..Frame::default()
        };
        site.stack = vec![frame; 50];
        let mut out = Vec::new();
        let host = crate::report::model::Host {
            name: long.clone(),
            id: long.clone(),
        };
        JsonStream::new(host).report(&report, &mut out);
        let lines = lines(&out);
        assert!(!lines[3]["allocators"].as_array().unwrap().is_empty());
        assert!(lines[4]["stack"].as_array().unwrap().len() >= 2);
    }
}

/// What is cut is accounted for, and what is not cut has no `"truncated"`.
#[test]
fn cuts_are_told() {
    assert!(run().iter().all(|line| line.get("truncated").is_none()));
    let mut report = samples::rich();
    let process = &mut report.processes[0];
    process.command_line = "x".repeat(5000);
    let stack = &mut process.sites[0].stack;
    *stack = (0..200)
        .map(|i| Frame {
            address: i,
            ..stack[1].clone()
        })
        .collect();
    let lines = report_lines(&report);
    let shown = lines[0]["process"]["command_line"].as_str().unwrap();
    let left_out = lines[0]["truncated"]["command_line"].as_u64().unwrap() as usize;
    assert_eq!(shown.chars().filter(|c| *c == 'x').count() + left_out, 5000);
    let stack = lines[1]["stack"].as_array().unwrap();
    let left_out = lines[1]["truncated"]["stack"].as_u64().unwrap() as usize;
    assert_eq!(stack.len() + left_out, 200);
    assert!(stack.len() > 20, "{}", stack.len());
    assert_eq!(stack[0]["address"], "0x0");
    assert_eq!(stack[stack.len() - 1]["address"], "0xc7");
}

/// A long course gives way to a long stack, whose frames tell whose leak it is.
#[test]
fn a_course_gives_way_to_a_stack() {
    let mut report = samples::rich();
    let site = &mut report.processes[0].sites[0];
    site.stack = vec![site.stack[1].clone(); 200];
    let told = |report: &Report| {
        let lines = report_lines(report);
        let site = lines.iter().find(|it| it["type"] == "site").unwrap();
        let len = |list: &Value| list.as_array().map_or(0, Vec::len);
        (len(&site["stack"]), len(&site["course"]["seconds"]))
    };
    site.course = None;
    let (frames_without, _) = told(&report);
    let mut course = Course::default();
    for second in 0..100_000_u32 {
        course.push(second.into(), 1_000_000 + u64::from(second));
    }
    report.processes[0].sites[0].course = Some(course);
    let (frames, points) = told(&report);
    assert!(frames * 10 >= frames_without * 9, "{frames}");
    assert!(points > 8, "{points}");
}

/// A process of which nothing was seen has no figures, rather than zeros.
#[test]
fn not_covered_is_not_zero() {
    let lines = run();
    let java = lines
        .iter()
        .find(|l| l["process"]["executable"]["name"] == "java")
        .unwrap();
    assert_eq!(java["coverage"], "none");
    assert!(java.get("live_bytes").is_none() && java.get("site_count").is_none());
}

/// The share of a CPU is told only where the cost of a trap is known.
#[test]
fn overhead_needs_calibration() {
    let lines = run();
    assert_eq!(
        lines[1]["overhead"],
        json!({"cpu_fraction": 0.007_990_425, "hits_per_second": 9_400.5, "ns_per_hit": 850.0})
    );
    assert_eq!(lines[4]["overhead"], json!({"hits_per_second": 1.5}));
}

/// A comparison is valid lines as well, whatever is compared.
#[test]
fn comparisons_are_valid() {
    let stream = JsonStream::new(samples::host());
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut snapshot = || Snapshot::of(&samples::host(), random.report());
        let difference = compare(&snapshot(), &snapshot(), usize::MAX);
        let mut out = Vec::new();
        stream.difference(&difference, &mut out);
        let sites: usize = difference.programs.iter().map(|it| it.sites.len()).sum();
        assert_eq!(lines(&out).len(), 1 + difference.programs.len() + sites);
    }
}

/// The schema refuses a line from which any required field is missing, and one
/// with a field that nobody has defined.
#[test]
fn the_schema_refuses_missing_and_unknown_fields() {
    for line in run() {
        let optional = [
            "container",
            "k8s",
            "coverage_reason",
            "rss_bytes",
            "growth_bytes_per_second",
            "exited",
            "stack_truncated",
            "course",
            "suppressed",
        ];
        let fields = line.as_object().unwrap();
        for field in fields
            .keys()
            .filter(|field| !optional.contains(&field.as_str()))
        {
            let mut without = fields.clone();
            without.remove(field);
            assert!(
                !SCHEMA.is_valid(&Value::Object(without)),
                "{} without {field}",
                line["type"]
            );
        }
        let mut with = fields.clone();
        with.insert("surprise".into(), json!(1));
        assert!(!SCHEMA.is_valid(&Value::Object(with)));
    }
}

/// What the schema already defines for pods and for Go is accepted.
#[test]
fn the_schema_knows_pods_and_go() {
    let mut lines = run();
    let process = lines[1].as_object_mut().unwrap();
    process.insert("runtime".into(), json!("go"));
    process.insert("go".into(), json!({"version": "go1.24.1"}));
    process.insert("gc_cycles_survived".into(), json!(3));
    process.insert("not_yet_collected_bytes".into(), json!(4096));
    process.insert(
        "k8s".into(),
        json!({"namespace": {"name": "shop"}, "pod": {"name": "cart-0", "uid": "1f"},
               "container": {"name": "cart"}, "node": {"name": "node-7"}}),
    );
    assert!(SCHEMA.is_valid(&lines[1]));
    lines[1]["k8s"]["pod"]["surprise"] = json!(1);
    assert!(!SCHEMA.is_valid(&lines[1]));
}

/// The schema refuses values of the wrong form.
#[test]
fn the_schema_refuses_wrong_values() {
    let lines = run();
    let check = |line: usize, pointer: &str, wrong: Value| {
        let mut line = lines[line].clone();
        *line.pointer_mut(pointer).unwrap() = wrong.clone();
        assert!(!SCHEMA.is_valid(&line), "{pointer} = {wrong}");
    };
    check(0, "/type", json!("surprise"));
    check(0, "/schema", json!("leaktrace/2"));
    check(0, "/time", json!("2026-03-04T10:15:00Z"));
    check(0, "/options/duration", json!(30));
    check(1, "/process/pid", json!("4312"));
    check(1, "/coverage", json!("most"));
    check(1, "/live_bytes", json!(-1));
    check(1, "/live_bytes", json!(1_u64 << 53));
    check(1, "/live_bytes", json!(1.5));
    check(1, "/rss_bytes", Value::Null);
    check(1, "/accuracy/lost", json!({"frees_lost": "1"}));
    check(2, "/site/id", json!(81_985_529));
    check(2, "/site/id", json!("0123456789ABCDEF"));
    check(2, "/stack/0/address", json!(6_954_800));
    check(
        2,
        "/stack/0",
        json!({"address": "0x1", "inlined": false, "surprise": 1}),
    );
    check(2, "/process", json!({"pid": 1}));
}
