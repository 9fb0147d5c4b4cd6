//! Owns the comparison: the corpus's programs under other tools, and which marked lines those list.
//! Must not know what leaktrace says of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::programs::{Language, PROGRAMS, Program};
use super::truth::{self, Guilt, Mark};
use super::{OPEN_FILES, PARALLEL};
use crate::setup::Tools;
use crate::{golang, toolchain};

/// Another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Memleak,
    Heaptrack,
    LeakSanitizer,
    Pprof,
}

const PEERS: [Peer; 4] = [
    Peer::Memleak,
    Peer::Heaptrack,
    Peer::LeakSanitizer,
    Peer::Pprof,
];

/// What came of one tool.
#[derive(Default)]
struct Score {
    programs: usize,
    leaks: usize,
    listed_leaks: usize,
    innocents: usize,
    listed_innocents: usize,
    failures: Vec<String>,
}

/// A program and where it lies.
type Built = (Program, PathBuf);

/// Runs all programs under each tool and prints what it lists.
///
/// # Errors
/// Fails where a program does not build. A tool that cannot run here is left out, with its reason.
pub fn run(tools: &Tools, seconds: u32) -> Result<()> {
    let mut built: Vec<Built> = Vec::new();
    for program in PROGRAMS {
        built.push((program, program.build(tools)?));
    }
    println!(
        "{:<15} {:<15} {:>8} {:>6} {:>7} {:>10} {:>7}  asks for",
        "tool", "languages", "programs", "leaks", "listed", "innocents", "listed"
    );
    let mut reasons = Vec::new();
    for peer in PEERS {
        if let Some(reason) = peer.why_not() {
            reasons.push(format!("{}: left out: {reason}", peer.name()));
            continue;
        }
        eprintln!("xtask: {} for {seconds} s a program", peer.name());
        let score = examine(peer, &built, seconds)?;
        println!(
            "{:<15} {:<15} {:>8} {:>6} {:>7} {:>10} {:>7}  {}",
            peer.name(),
            peer.languages()
                .iter()
                .map(|it| it.name())
                .collect::<Vec<_>>()
                .join(", "),
            score.programs,
            score.leaks,
            score.listed_leaks,
            score.innocents,
            score.listed_innocents,
            peer.asks_for(),
        );
        reasons.extend(score.failures);
    }
    for reason in reasons {
        println!("{reason}");
    }
    Ok(())
}

/// Runs what a tool can read, some at the same time.
fn examine(peer: Peer, built: &[Built], seconds: u32) -> Result<Score> {
    let readable: Vec<&Built> = built
        .iter()
        .filter(|(program, _)| peer.languages().contains(&program.language))
        .collect();
    let mut score = Score::default();
    for group in readable.chunks(PARALLEL) {
        let reports: Vec<Result<String>> = thread::scope(|scope| {
            let started: Vec<_> = group
                .iter()
                .map(|(program, path)| scope.spawn(|| peer.report(*program, path, seconds)))
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join();
            let ends = started.into_iter().map(join);
            ends.map(|end| end.expect("a report does not panic"))
                .collect()
        });
        for ((program, _), report) in group.iter().zip(reports) {
            match report {
                Ok(report) => score.add(peer, *program, &report)?,
                Err(error) => {
                    let name = program.name;
                    score
                        .failures
                        .push(format!("{}: {name}: {error:#}", peer.name()));
                }
            }
        }
    }
    Ok(score)
}

impl Score {
    fn add(&mut self, peer: Peer, program: Program, report: &str) -> Result<()> {
        let source = program.source();
        let text = fs::read_to_string(&source)
            .with_context(|| format!("failed to read {}", source.display()))?;
        let file = source.file_name().unwrap_or_default().to_string_lossy();
        self.programs += 1;
        for mark in truth::truth(&text)?.marks {
            let is_listed = match peer {
                // It knows no lines: the function is enough.
                Peer::Memleak => has_function(report, &text, &mark),
                _ => has_line(report, &file, mark.line),
            };
            match mark.guilt {
                Guilt::Leak(_) => {
                    self.leaks += 1;
                    self.listed_leaks += usize::from(is_listed);
                }
                Guilt::Innocent => {
                    self.innocents += 1;
                    self.listed_innocents += usize::from(is_listed);
                }
                Guilt::Either => {}
            }
        }
        Ok(())
    }
}

/// Whether a report has a line of a file: its number is not followed by another digit.
fn has_line(report: &str, file: &str, line: u64) -> bool {
    let place = format!("/{file}:{line}");
    report
        .match_indices(&place)
        .any(|(at, found)| !report[at + found.len()..].starts_with(|it: char| it.is_ascii_digit()))
}

/// Whether a report has the function around a mark.
fn has_function(report: &str, text: &str, mark: &Mark) -> bool {
    let before = text
        .lines()
        .take(usize::try_from(mark.line).unwrap_or(usize::MAX));
    let Some(name) = before.filter_map(function_of).last() else {
        return false;
    };
    let is_name = |it: char| it.is_alphanumeric() || it == '_';
    // Rust's names stay as the compiler writes them, with the length before each part.
    let mangled = format!("{}{name}", name.len());
    report.lines().any(|line| {
        let words = line.split(|it| !is_name(it));
        let frame = words.skip_while(|word| !word.starts_with("0x")).skip(1);
        frame.into_iter().any(|word| {
            word == name
                || word
                    .strip_prefix("_R")
                    .is_some_and(|word| word.contains(&mangled))
        })
    })
}

/// The function that a line of C, C++ or Rust begins.
fn function_of(line: &str) -> Option<&str> {
    let is_name = |it: char| it.is_alphanumeric() || it == '_';
    if let Some((_, rest)) = line.split_once("fn ") {
        return rest.split(|it| !is_name(it)).next();
    }
    let is_c = line.starts_with(|it: char| it.is_ascii_alphabetic()) && !line.contains(';');
    let (head, _) = line.split_once('(').filter(|_| is_c)?;
    head.rsplit(|it| !is_name(it)).next()
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Memleak => "bcc memleak",
            Self::Heaptrack => "heaptrack",
            Self::LeakSanitizer => "LeakSanitizer",
            Self::Pprof => "Go's pprof",
        }
    }

    fn asks_for(self) -> &'static str {
        match self {
            Self::Memleak => "kernel headers, one pid; tells functions, not lines",
            Self::Heaptrack => "a start under it, and an end",
            Self::LeakSanitizer => "another build, and an end",
            Self::Pprof => "code in the program",
        }
    }

    fn languages(self) -> Vec<Language> {
        match self {
            Self::Memleak | Self::Heaptrack => {
                vec![Language::C, Language::Cplusplus, Language::Rust]
            }
            // Rust's takes a nightly compiler.
            Self::LeakSanitizer => vec![Language::C, Language::Cplusplus],
            Self::Pprof => vec![Language::Go],
        }
    }

    /// Why it cannot run here.
    fn why_not(self) -> Option<String> {
        let lacks = |program: &str, package: &str| {
            let is_there = toolchain::is_in_path(program);
            (!is_there).then(|| format!("no {program}: install the package {package}"))
        };
        match self {
            Self::Memleak => lacks("memleak-bpfcc", "bpfcc-tools").or_else(|| {
                let lacks_headers = kernel_headers().is_none();
                lacks_headers.then(|| {
                    "no kernel headers: name a tree of them in BCC_KERNEL_SOURCE".to_owned()
                })
            }),
            Self::Heaptrack => lacks("heaptrack", "heaptrack"),
            Self::LeakSanitizer | Self::Pprof => None,
        }
    }

    /// Runs a program under it and gives what it reports as text.
    fn report(self, program: Program, path: &Path, seconds: u32) -> Result<String> {
        let dir = toolchain::target_dir().join("corpus/peers");
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let own = dir.join(format!(
            "{}-{}",
            self.name().replace([' ', '\''], "-"),
            program.name.replace('/', "-")
        ));
        match self {
            Self::Memleak => memleak(path, &own, seconds),
            Self::Heaptrack => heaptrack(path, &own, seconds),
            Self::LeakSanitizer => leak_sanitizer(program, &own, seconds),
            Self::Pprof => pprof(path, &own, seconds),
        }
    }
}

/// Where bcc finds headers: told by the environment, or the running kernel's.
fn kernel_headers() -> Option<PathBuf> {
    let told = std::env::var_os("BCC_KERNEL_SOURCE").map(PathBuf::from);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let own = Path::new("/lib/modules").join(release.trim()).join("build");
    told.or(Some(own)).filter(|dir| dir.exists())
}

/// Raises the limit of open files, so that what is never closed does not end a program.
fn start(program: &Path, seconds: u32) -> Command {
    let mut command = Command::new("prlimit");
    command.args([OPEN_FILES, "--"]).arg(program);
    command.arg(seconds.to_string());
    command.stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("failed to run {command:?}"))
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), b"\n", output.stderr.as_slice()];
    String::from_utf8_lossy(&both.concat()).into_owned()
}

/// What is outstanding at the end, if older than a second.
fn memleak(program: &Path, own: &Path, seconds: u32) -> Result<String> {
    let script = own.with_extension("py");
    fs::write(&script, include_str!("memleak.py"))
        .with_context(|| format!("failed to write {}", script.display()))?;
    // Compiling its probes takes a while, in which the program runs too.
    let mut running = start(program, 3 * seconds);
    let mut child = Running(running.spawn().context("failed to run a program")?);
    let pid = child.0.id().to_string();
    let interval = seconds.to_string();
    let mut memleak = Command::new("/usr/bin/python3");
    memleak.arg(&script).args(["-p", &pid, "-T", "200"]);
    memleak.args(["-o", "1000", &interval, "1"]);
    let output = output(&mut memleak)?;
    child.end();
    let text = text(&output);
    if !text.contains("outstanding allocations") {
        bail!("{}", text.trim().lines().last().unwrap_or("no report"));
    }
    Ok(text)
}

/// A program that ends when its observer is done.
struct Running(Child);

impl Running {
    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What was not freed at the end of the program.
fn heaptrack(program: &Path, own: &Path, seconds: u32) -> Result<String> {
    let mut heaptrack = Command::new("heaptrack");
    heaptrack.arg("-o").arg(own).arg(program);
    heaptrack.arg(seconds.to_string()).stdin(Stdio::null());
    output(&mut heaptrack)?;
    let mut data = own.as_os_str().to_owned();
    data.push(".zst");
    let mut print = Command::new("heaptrack_print");
    print.args([
        "-m", "0", "-l", "1", "-p", "0", "-a", "0", "-T", "0", "-n", "1000", "-s", "1000", "-f",
    ]);
    let output = output(print.arg(data))?;
    if !output.status.success() {
        bail!("heaptrack_print: {}", output.status);
    }
    Ok(text(&output))
}

/// What nothing refers to any more at the end of the program.
fn leak_sanitizer(program: Program, own: &Path, seconds: u32) -> Result<String> {
    let compiler = match program.language {
        Language::C => "cc",
        _ => "c++",
    };
    let mut cc = Command::new(compiler);
    cc.args(["-O2", "-g", "-pthread", "-fsanitize=leak", "-o"]);
    let built = output(cc.arg(own).arg(program.source()))?;
    if !built.status.success() {
        bail!("{}", text(&built));
    }
    let output = output(&mut start(own, seconds))?;
    Ok(text(&output))
}

/// What is in use at the end of the program, as the runtime samples it.
fn pprof(program: &Path, own: &Path, seconds: u32) -> Result<String> {
    let profile = own.with_extension("pprof");
    output(start(program, seconds).env("CORPUS_HEAP_PROFILE", &profile))?;
    let mut go = Command::new(golang::newest()?);
    go.args(["tool", "pprof", "-traces", "-lines"]);
    go.arg("-sample_index=inuse_space");
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    let cache = toolchain::target_dir().join("corpus/go-cache");
    go.env("GOCACHE", cache);
    go.env("PPROF_TMPDIR", own.with_extension("tmp"));
    let output = output(go.arg(program).arg(&profile))?;
    if !output.status.success() {
        bail!("go tool pprof: {}", text(&output).trim());
    }
    Ok(text(&output))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tools' reports are searched for lines as they write them, and for functions in frames only.
    #[test]
    fn reports_of_other_tools_are_understood() {
        let lines = "  at leaktrace/corpus/c/cache.c:43\n  /x/cache.c:5";
        assert!(has_line(lines, "cache.c", 43));
        assert!(!has_line(lines, "cache.c", 4));
        assert_eq!(
            function_of("static NOINLINE void remember(unsigned id)"),
            Some("remember")
        );
        assert_eq!(function_of("async fn send(stream: Stream) {"), Some("send"));
        assert_eq!(function_of("    x = must(malloc(1));"), None);
        let report =
            "\t256 bytes in 1 allocations from stack\n\t\t0x000055\tcache_page+0x3e [cache]\n";
        let text = "static void cache_page(unsigned id)\n{\n    must(calloc(1, 2));\n}\n\nint main(void) {\n f();\n";
        let mark = |line| Mark {
            name: String::new(),
            line,
            guilt: Guilt::Innocent,
        };
        assert!(has_function(report, text, &mark(3)));
        assert!(!has_function(report, text, &mark(7)));
        let report = "\t\t0x000055\t_RNvCs2YX_5cache6intern+0x38 [cache]\n";
        assert!(has_function(report, "fn intern() {\n", &mark(1)));
        assert!(!has_function(report, "fn tern() {\n", &mark(1)));
    }
}
