//! Owns the tests of the reading: what was written comes back, and damage is named.
//! Must not know how lines are parsed.

use super::{Item, LINE_BYTES_MAX, ReadError, Reader};
use crate::report::{
    json::JsonStream,
    model::{BlockedGoroutines, CreatedGoroutines, Goroutines, Host, Report},
    samples::{self, Random},
};

/// The stream of a whole run.
fn run(report: &Report) -> String {
    let stream = JsonStream::new(samples::host());
    let mut out = Vec::new();
    stream.start(&samples::start(), &mut out);
    stream.report(report, &mut out);
    stream.end(&samples::end(), &mut out);
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> Result<Vec<Item>, ReadError> {
    let mut reader = Reader::default();
    let mut items = Vec::new();
    for line in text.lines() {
        items.extend(reader.line(line.as_bytes())?);
    }
    items.extend(reader.finish());
    Ok(items)
}

fn reports(items: Vec<Item>) -> Vec<Report> {
    let reports = items.into_iter().filter_map(|item| match item {
        Item::Report(_, report) => Some(report),
        _ => None,
    });
    reports.collect()
}

/// The lines that a report makes.
fn lines(report: &Report) -> String {
    let mut out = Vec::new();
    JsonStream::new(samples::host()).report(report, &mut out);
    String::from_utf8(out).unwrap()
}

/// What the stream does not carry, left out of a report.
fn carried(mut report: Report) -> Report {
    report.quiet_process_count = 0;
    report
}

/// A run comes back as it was, but for what the stream does not carry.
#[test]
fn what_was_written_comes_back() {
    for report in [samples::rich(), samples::calm()] {
        let items = read(&run(&report)).unwrap();
        assert_eq!(
            items,
            [
                Item::Start(samples::host(), samples::start()),
                Item::Report(samples::host(), carried(report)),
                Item::End(samples::host(), samples::end()),
            ]
        );
    }
}

/// Whatever a report says, its lines are read, and no site or figure is missing.
#[test]
fn any_report_comes_back() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut report = random.report();
        report.processes.dedup_by_key(|process| process.identity);
        let written = lines(&report);
        let back = reports(read(&written).unwrap());
        let Some(back) = back.first() else {
            assert!(written.is_empty());
            continue;
        };
        let sites = |report: &Report| -> Vec<(u64, u64)> {
            let sites = report.processes.iter().flat_map(|it| &it.sites);
            sites
                .map(|site| (site.id, site.counts.live_count.min((1 << 53) - 1)))
                .collect()
        };
        assert_eq!(sites(back), sites(&report));
        // It can be written again.
        assert!(!reports(read(&lines(back)).unwrap()).is_empty());
    }
}

/// Reports follow each other with and without starts and ends; a stream that stands there twice
/// gives its reports twice; hosts may be mixed.
#[test]
fn reports_are_told_apart() {
    let numbers = |text: &str| -> Vec<u32> {
        let reports = reports(read(text).unwrap());
        reports.iter().map(|report| report.number).collect()
    };
    let report = |number| Report {
        number,
        time_unix_ns: u64::from(number),
        ..samples::calm()
    };
    let (one, two) = (lines(&report(1)), lines(&report(2)));
    assert_eq!(numbers(&format!("{one}{two}")), [1, 2]);
    assert_eq!(numbers(&format!("{one}{one}")), [1, 1]);
    assert_eq!(numbers(&run(&report(1)).repeat(2)), [1, 1]);
    assert_eq!(numbers(""), [] as [u32; 0]);

    let other = Host {
        name: "node-8".into(),
        id: "8".into(),
    };
    let mut elsewhere = Vec::new();
    JsonStream::new(other.clone()).report(&samples::rich(), &mut elsewhere);
    let elsewhere = String::from_utf8(elsewhere).unwrap();
    let mut mixed = String::new();
    let mut here = run(&samples::rich());
    for line in elsewhere.lines() {
        let (first, rest) = here.split_once('\n').unwrap();
        mixed.push_str(&format!("{first}\n{line}\n"));
        here = rest.to_owned();
    }
    mixed.push_str(&here);
    let items = read(&mixed).unwrap();
    for host in [samples::host(), other] {
        assert!(items.contains(&Item::Report(host, carried(samples::rich()))));
    }
}

/// Members and types of later versions are left alone.
#[test]
fn what_is_unknown_is_left_alone() {
    let text = run(&samples::rich());
    let mut more = String::new();
    for line in text.lines() {
        let line = line.replacen('{', r#"{"later":[{"a":null}],"#, 1);
        let line = line.replace(r#""executable":{"#, r#""executable":{"later":1,"#);
        more.push_str(&format!("{line}\n"));
        more.push_str("{\"schema\":\"leaktrace/1\",\"type\":\"later\",\"time\":\"2026-03-04T10:15:00.000000000Z\"}\n\n");
    }
    assert_eq!(read(&more), read(&text));
}

/// A stack that was cut says where and how much.
#[test]
fn cut_stacks_say_so() {
    let mut report = samples::rich();
    let stack = &mut report.processes[0].sites[0].stack;
    *stack = vec![stack[1].clone(); 200];
    let back = reports(read(&lines(&report)).unwrap());
    let stack = &back[0].processes[0].sites[0].stack;
    let kept = stack.len() - 1;
    let at = kept - kept / 4;
    let said = stack[at].function.as_deref().unwrap();
    let left_out = 200 - (stack.len() - 1);
    assert_eq!(said, format!("[{left_out} frames left out of the stream]"));
}

/// What inlined frames share with the frame around them comes back, where the writer left it out.
#[test]
fn inlined_frames_have_their_module() {
    let mut report = samples::rich();
    let stack = &mut report.processes[0].sites[0].stack;
    let pair = [stack[0].clone(), stack[1].clone()];
    *stack = pair.iter().cloned().cycle().take(60).collect();
    let written = lines(&report);
    let site = written.lines().nth(1).unwrap();
    assert!(
        site.matches("\"module\":").count() < 60,
        "nothing is left out: {site}"
    );
    let back = reports(read(&written).unwrap());
    let stack = &back[0].processes[0].sites[0].stack;
    let named = stack
        .iter()
        .filter(|frame| frame.module.as_deref() == Some("postgres"));
    let marks = stack.iter().filter(|frame| frame.address == 0).count();
    assert!(
        marks <= 1 && named.count() == stack.len() - marks,
        "{stack:#?}"
    );
}

/// Every damage is named with its line and a remedy, in one line that no terminal obeys.
#[test]
fn damage_is_named() {
    let text = run(&samples::rich());
    let second = text.lines().nth(1).unwrap();
    let check = |bad: &str, words: &[&str]| {
        let mut reader = Reader::default();
        reader
            .line(text.lines().next().unwrap().as_bytes())
            .unwrap();
        let error = reader.line(bad.as_bytes()).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.line, 2);
        assert!(
            said.starts_with("line 2 ") && said.contains("remedy: "),
            "{said}"
        );
        assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
        assert!(said.len() < 600, "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    };
    let half = second.get(..second.len() / 2).unwrap();
    check(half, &["cut short or damaged", "sed 2d"]);
    check("\u{1}\u{2}", &["damaged"]);
    for other in ["null", "[]", "42", "\"text\""] {
        check(other, &["no JSON object"]);
    }
    check("{}", &["no leaktrace stream", "--format json"]);
    check(&format!("{{\"a\":{}", "[".repeat(5_000)), &["damaged"]);
    check(&"x".repeat(LINE_BYTES_MAX + 1), &["longer than"]);
    let swap = |from: &str, to: &str| {
        let changed = second.replacen(from, to, 1);
        assert_ne!(changed, second, "{from}");
        changed
    };
    check(
        &swap("leaktrace/1", "leaktrace/9"),
        &["leaktrace/9", "version"],
    );
    check(&swap("\"pid\":4312", "\"pid\":-1"), &["-1"]);
    check(&swap("\"pid\":4312", "\"pid\":4294967296"), &["4294967296"]);
    check(&swap("\"live_count\":1234567", "\"live_count\":1e400"), &[]);
    check(
        &swap("\"coverage\":\"full\"", "\"coverage\":\"\\u001b[2J\""),
        &["\\x1b[2J"],
    );
    check(&swap("2026-03-03T", "0026-03-03T"), &["before 1970"]);
    check(&swap("2026-03-03T", "yesterday"), &["no time"]);
    let orphan = text.lines().nth(2).unwrap();
    check(orphan, &["pid 4312"]);
}

/// Durations that no clock shows do no harm.
#[test]
fn odd_durations_do_no_harm() {
    let text = run(&samples::rich());
    for odd in ["-1.5", "1e300", "0", "1e-300"] {
        let text = text.replace(
            "\"elapsed_seconds\":133.25",
            &format!("\"elapsed_seconds\":{odd}"),
        );
        let text = text.replace(
            "\"oldest_age_seconds\":130.0",
            &format!("\"oldest_age_seconds\":{odd}"),
        );
        assert_eq!(reports(read(&text).unwrap()).len(), 1, "{odd}");
    }
}

/// Whatever bytes are where, reading gives an error or not, and never panics; lines that follow are
/// read as before.
#[test]
fn any_bytes_are_survived() {
    let text = run(&samples::rich());
    let mut random = Random::new(7);
    for _ in 0..600 {
        let mut reader = Reader::default();
        for line in text.lines() {
            let mut bytes = line.as_bytes().to_vec();
            for _ in 0..random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.below(256) as u8,
                    1 => bytes.truncate(at + 1),
                    _ => drop(bytes.drain(at..)),
                }
                if bytes.is_empty() {
                    bytes.push(b' ');
                }
            }
            if let Err(error) = reader.line(&bytes) {
                assert!(error.to_string().contains("remedy"));
            }
        }
        reader.finish();
        assert_eq!(reader.line_count(), text.lines().count() as u64);
        assert!(
            matches!(reader.line(text.lines().next().unwrap().as_bytes()), Ok(items) if items.len() == 1)
        );
    }
}

/// Goroutines come back with their process.
#[test]
fn goroutines_come_back() {
    let mut report = samples::rich();
    let frame = report.processes[0].sites[0].stack[0].clone();
    let states = [("waiting", 101), ("running", 1)];
    report.processes[0].goroutines = Some(Goroutines {
        count: 102,
        blocked_count: 100,
        states: states.into_iter().collect(),
        created: vec![CreatedGoroutines {
            count: 100,
            blocked_count: 99,
            created_by: Some(frame.clone()),
            function: Some("main.send".to_owned()),
        }],
        blocked: vec![BlockedGoroutines {
            count: 100,
            blocked_count: 99,
            state: "waiting".to_owned(),
            wait_reason: Some("chan send".to_owned()),
            age: std::time::Duration::from_millis(12_500),
            created_by: None,
            stack: vec![frame],
        }],
        ..Goroutines::default()
    });
    report.processes[1].goroutines = Some(Goroutines {
        unavailable: Some("its memory could not be read".to_owned()),
        ..Goroutines::default()
    });
    let told = reports(read(&run(&report)).unwrap());
    assert_eq!(told, [carried(report)]);
}
