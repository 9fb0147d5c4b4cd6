//! Owns `leaktrace render`: saved streams on machines where nothing can be traced.
//! Must not know how views look in detail.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::{
    agent::{self, Agent, Ended},
    kernel, programs,
    stream::validated,
    workload::Workload,
};

/// Debian's uid of nobody.
const NOBODY: u32 = 65_534;

/// A stream that the project's own tests keep, with one of everything.
const SAVED: &str = include_str!("../../src/report/golden/run.ndjson");

/// A directory where everyone may look, with the agent and some files in it.
struct Elsewhere(PathBuf);

impl Elsewhere {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("leaktrace-render-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let program = directory.join("leaktrace");
        fs::copy(agent::program().get_program(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let this = Self(directory);
        this.write("saved.ndjson", SAVED);
        this
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Runs the agent as nobody, with no right but to read.
    fn run(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(self.0.join("leaktrace"));
        command.args(args).current_dir(&self.0);
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Agent::run(&mut command).wait()
    }

    /// What a view of the saved stream says.
    fn view(&self, args: &[&str]) -> String {
        let ended = self.run(&[&["render"][..], args].concat());
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.stderr.is_empty(), "{ended:#?}");
        ended.stdout.join("\n")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // What remains in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Nobody may render, and sees the words of the trace itself.
#[test]
fn nobody_may_render() {
    let there = Elsewhere::new("nobody");
    let text = there.view(&["saved.ndjson"]);
    for word in ["report 3", "postgres", "growing", "AllocSetAlloc", "LOSSY"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
    let coloured = there.view(&["saved.ndjson", "--color", "always"]);
    assert!(coloured.contains("\x1b[1m"), "{coloured}");
    let folded = there.view(&["saved.ndjson", "--format", "folded"]);
    let stack = "postgres-4312;__libc_start_call_main;main;PostgresMain;exec_simple_query;palloc;\
                 AllocSetAlloc;AllocSetAllocFromNewBlock 276824064";
    assert!(folded.lines().any(|line| line == stack), "{folded}");
}

/// Of several reports the last one is shown, or the one that is asked for, or all.
#[test]
fn a_report_is_chosen() {
    let there = Elsewhere::new("chosen");
    let earlier = SAVED.replace("\"report\":3", "\"report\":2");
    let earlier = earlier.replace("2026-03-04T10:15:00", "2026-03-04T10:14:00");
    let both: String = earlier
        .lines()
        .filter(|line| !line.contains("\"type\":\"end\""))
        .fold(String::new(), |all, line| all + line + "\n")
        + SAVED.split_once('\n').unwrap().1;
    there.write("both.ndjson", &both);
    let shown = |args: &[&str]| {
        let text = there.view(&[&["both.ndjson"][..], args].concat());
        [2, 3].map(|n| text.contains(&format!("leaktrace report {n} ")))
    };
    assert_eq!(shown(&[]), [false, true]);
    assert_eq!(shown(&["--report", "last"]), [false, true]);
    assert_eq!(shown(&["--report", "2"]), [true, false]);
    assert_eq!(shown(&["--report", "all"]), [true, true]);
    let ended = there.run(&["render", "both.ndjson", "--report", "9"]);
    assert!(ended.refusal().contains("no report 9"), "{ended:#?}");
    assert!(ended.refusal().contains("its last one is 3"), "{ended:#?}");
}

/// A stream comes by standard input as well, and a view goes to a file.
#[test]
fn streams_come_and_views_go_anywhere() {
    let there = Elsewhere::new("pipes");
    let output = there.0.join("view.txt");
    let mut child = agent::program()
        .args(["render", "-", "--output"])
        .arg(&output)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), SAVED.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty());
    let text = fs::read_to_string(output).unwrap();
    assert_eq!(text.trim_end(), there.view(&["saved.ndjson"]).trim_end());
}

/// Files that are none, damaged or empty are refused in one line that names file, line and remedy.
#[test]
fn damage_is_refused() {
    let there = Elsewhere::new("damage");
    let check = |name: &str, text: Option<&str>, words: &[&str]| {
        if let Some(text) = text {
            there.write(name, text);
        }
        let ended = there.run(&["render", name]);
        let line = ended.refusal();
        for word in words.iter().chain(&[name, "remedy: "]) {
            assert!(line.contains(word), "no {word:?} in: {line}");
        }
    };
    check("absent.ndjson", None, &["No such file"]);
    check(".", None, &["directory"]);
    check("empty.ndjson", Some(""), &["no report"]);
    let first = SAVED.split_inclusive('\n').next().unwrap();
    check("early.ndjson", Some(first), &["no report"]);
    let cut = &SAVED[..SAVED.len() - 30];
    let last = format!("line {} ", SAVED.lines().count());
    check("cut.ndjson", Some(cut), &[&last, "cut short"]);
    check("text.txt", Some("hello\n"), &["line 1 "]);
    check(
        "other.json",
        Some("{}\n"),
        &["line 1 ", "no leaktrace stream"],
    );
    let long = format!("{SAVED}{}", "x".repeat(1 << 20));
    check("long.ndjson", Some(&long), &["longer than"]);
    let newer = SAVED.replace("leaktrace/1", "leaktrace/2");
    check("newer.ndjson", Some(&newer), &["leaktrace/2", "line 1 "]);
}

/// Known leaks are left out, with what they hold; a wrong file of them is named with its line.
#[test]
fn suppressions_hide_and_tell() {
    let there = Elsewhere::new("suppressions");
    there.write("known.txt", "# accepted\nleak:AllocSet*Block\n");
    let text = there.view(&["saved.ndjson", "--suppressions", "known.txt"]);
    assert!(!text.contains("AllocSetAllocFromNewBlock"), "{text}");
    assert!(
        text.contains("suppressed") && text.contains("leak:AllocSet*Block"),
        "{text}"
    );
    there.write("wrong.txt", "leak:a\nnonsense\n");
    let ended = there.run(&["render", "saved.ndjson", "--suppressions", "wrong.txt"]);
    for word in ["wrong.txt", "line 2", "remedy"] {
        assert!(ended.refusal().contains(word), "{ended:#?}");
    }
}

/// Who reads no more has had enough.
#[test]
fn a_closed_pipe_ends_a_view() {
    let there = Elsewhere::new("pipe");
    let path = there.0.join("saved.ndjson");
    for extra in [&[][..], &["--report", "all"], &["--format", "folded"]] {
        let mut command = agent::program();
        command.arg("render").arg(&path).args(extra);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let said = child.wait_with_output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        assert!(said.stderr.is_empty(), "{said:?}");
    }
}

/// What a trace says at once and what its stream says later are the same words.
#[test]
fn a_saved_trace_reads_as_it_did() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("steps", &[]);
    let path = programs::scratch().join("saved-trace.ndjson");
    let saved = path.to_str().unwrap();
    let agent = Agent::trace(&["--pid", &workload.pid_text(), "--output", saved]);
    for step in ["alloc 10 50", "alloc 5 60"] {
        workload.talk.say(step);
        workload.talk.hear("did ");
    }
    agent.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(agent.wait().code, Some(0));
    let folded = render(&path, &["--format", "folded"]);
    let bytes: u64 = folded
        .lines()
        .filter(|line| line.contains(";site_alloc "))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(bytes, 10 * 50 + 5 * 60, "{folded}");
    let root = format!("steps-{};", workload.pid());
    assert!(
        folded.lines().all(|line| line.starts_with(&root)),
        "{folded}"
    );
    let text = render(&path, &[]);
    assert!(
        text.contains("site_alloc") && text.contains("exact figures"),
        "{text}"
    );
    workload.finish();
}

/// Two streams are compared by site, for people and for programs.
#[test]
fn streams_are_compared() {
    let there = Elsewhere::new("diff");
    let older = SAVED.replace("\"live_bytes\":276824064", "\"live_bytes\":1000");
    there.write("older.ndjson", &older.replace("\"pid\":4312", "\"pid\":99"));
    let ended = there.run(&["diff", "older.ndjson", "saved.ndjson"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let text = ended.stdout.join("\n");
    for word in [
        "postgres",
        "grown",
        "+264.0 MiB",
        "1000 B → 264.0 MiB",
        "AllocSetAlloc",
        "growing",
    ] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    assert!(
        !text.contains("copyObjectImpl"),
        "what did not change is told:\n{text}"
    );
    let ended = there.run(&["diff", "older.ndjson", "saved.ndjson", "--format", "json"]);
    let lines: Vec<_> = ended.stdout.iter().map(|line| validated(line)).collect();
    assert_eq!(lines[0]["type"], "diff");
    let sites: Vec<_> = lines
        .iter()
        .filter(|it| it["type"] == "diff_site")
        .collect();
    assert_eq!(sites.len(), 1, "{sites:#?}");
    assert_eq!(sites[0]["site"]["id"], "0123456789abcdef");
    assert_eq!(sites[0]["change"], "grown");
    assert_eq!(sites[0]["difference_bytes"], 276_824_064 - 1000);
    let ended = there.run(&["diff", "absent.ndjson", "saved.ndjson"]);
    assert!(ended.refusal().contains("absent.ndjson"), "{ended:#?}");
    let ended = there.run(&["diff", "-", "-"]);
    assert!(ended.refusal().contains("remedy"), "{ended:#?}");
}

fn render(path: &Path, args: &[&str]) -> String {
    let mut command = agent::program();
    command.arg("render").arg(path).args(args);
    let ended = Agent::run(&mut command).wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    ended.stdout.join("\n")
}
