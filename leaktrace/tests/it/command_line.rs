//! Owns exit codes and errors: one line on stderr that names the object and the remedy.
//! Must not know what a trace finds.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use crate::harness::{
    PATIENCE,
    agent::{self, Agent, Ended},
    kernel, programs,
    workload::{Workload, wait},
};

/// Debian's uid of nobody.
const NOBODY: u32 = 65_534;

fn run(args: &[&str]) -> Ended {
    Agent::spawn(args).wait()
}

/// The arguments are refused in one line that has all these words.
#[track_caller]
fn check_refused(args: &[&str], words: &[&str]) {
    let ended = run(args);
    let line = ended.refusal();
    for word in words {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
}

/// Usage errors, which clap explains on several lines, are exit code 2 and leave stdout alone.
#[track_caller]
fn check_usage(args: &[&str], words: &[&str]) {
    let ended = run(args);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stdout.is_empty(), "{ended:#?}");
    let text = ended.stderr.join("\n");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// What cannot be understood is refused with what could be.
#[test]
fn usage_errors() {
    check_usage(&["trace", "--no-such-option"], &["--no-such-option"]);
    check_usage(&["trace", "--duration", "soon"], &["--duration", "30s"]);
    check_usage(&["trace", "--min-age", "10"], &["--min-age", "30s"]);
    check_usage(&["trace", "--min-size", "much"], &["--min-size", "4KiB"]);
    check_usage(&["trace", "--ring-size", "5000"], &["power of two"]);
    check_usage(&["trace", "--pid", "0"], &["--pid"]);
    check_usage(&["trace", "--pid", "x"], &["--pid"]);
    check_usage(&["trace", "--format", "xml"], &["text", "json"]);
    check_usage(&["no-such-command"], &["no-such-command"]);
    check_usage(&[], &["trace", "doctor"]);
}

/// Help and version are no errors, and go to stdout.
#[test]
fn help_is_no_error() {
    for args in [&["--help"][..], &["trace", "--help"], &["--version"]] {
        let ended = run(args);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(
            !ended.stdout.is_empty() && ended.stderr.is_empty(),
            "{ended:#?}"
        );
    }
}

/// A pid that nobody has.
#[test]
fn no_such_process() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut gone = Command::new("/bin/true").spawn().unwrap();
    wait(&mut gone);
    let pid = gone.id().to_string();
    check_refused(&["trace", "--pid", &pid], &[&pid, "remedy"]);
}

/// A thread of the kernel.
#[test]
fn a_kernel_thread() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    check_refused(&["trace", "--pid", "2"], &["pid 2", "kernel thread"]);
}

/// A program that maps no C library and tells nothing of the one in itself.
#[test]
fn a_stripped_static_program() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let program = programs::stripped_workload("steps");
    let workload = Workload::run(&mut Command::new(program));
    let pid = workload.pid_text();
    check_refused(&["trace", "--pid", &pid], &[&pid, "statically linked"]);
    workload.finish();
}

/// Commands that cannot be executed.
#[test]
fn commands_that_cannot_run() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let absent = "no-such-program-of-any-host";
    check_refused_command(absent, &[absent, "not found"]);
    check_refused_command("/no/such/file", &["/no/such/file"]);
    check_refused_command("/etc/passwd", &["/etc/passwd"]);
}

/// As `check_refused`, but the ready line may come before what is found only when the command runs.
#[track_caller]
fn check_refused_command(command: &str, words: &[&str]) {
    let ended = run(&["trace", "--", command]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stdout.is_empty(), "{ended:#?}");
    let line = ended.stderr.last().unwrap();
    for word in words {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
}

/// A report that cannot be written.
#[test]
fn an_output_that_cannot_be_written() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let path = "/no/such/directory/report";
    check_refused(&["trace", "--output", path, "--duration", "1s"], &[path]);
}

/// Without rights it is said which, and what helps.
#[test]
fn nobody_is_refused() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    // The target directory may lie where nobody may go.
    let directory = std::env::temp_dir().join(format!("leaktrace-it-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.join("leaktrace");
    fs::copy(agent::program().get_program(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args(["trace", "--duration", "1s"]);
    let ended = Agent::run(command.uid(NOBODY).gid(NOBODY).current_dir("/")).wait();
    fs::remove_dir_all(&directory).unwrap();
    let line = ended.refusal();
    assert!(line.contains("remedy"), "{line}");
}

/// Who reads no more has had enough: that is no error, before the report and during it.
#[test]
fn a_closed_pipe_is_no_error() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    for format in ["text", "json"] {
        let mut command = agent::program();
        command.args(["trace", "--duration", "300ms", "--format", format]);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let status = wait(&mut child);
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(status.code(), Some(0), "{format}: {said}");
        // With JSON the stream's start is refused before there is anything to announce.
        assert!(said.lines().count() <= 1, "{format}: {said}");
    }
}

/// The second Ctrl-C does not wait for anything.
#[test]
fn a_second_interrupt_ends_at_once() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let workload = Workload::start("steps", &[]);
    let agent = Agent::trace(&["--pid", &workload.pid_text()]);
    agent.signal(nix::sys::signal::Signal::SIGINT);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let began = std::time::Instant::now();
    let ended = agent.wait();
    assert!(began.elapsed() < PATIENCE);
    // It may have been done before the second came.
    assert!(matches!(ended.code, Some(0 | 130)), "{ended:#?}");
    workload.finish();
}

/// Where a trace is possible the doctor finds nothing wrong, a line a check.
#[test]
fn the_doctor_is_content() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let ended = run(&["doctor"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.len() > 5, "{ended:#?}");
    assert!(ended.stdout.iter().all(|line| !line.trim().is_empty()));
}
