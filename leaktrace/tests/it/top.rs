//! Owns the live screen on a real terminal: what it shows of a real program, and what keys do.
//! Must not know how the screen looks in detail.

use std::{
    fs,
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{PATIENCE, agent, kernel, stream::validated, workload, workload::Workload};

/// Waits until what the terminal was sent holds a word.
fn see(output: &Receiver<Vec<u8>>, seen: &mut String, word: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !seen.contains(word) {
        let left = deadline.saturating_duration_since(Instant::now());
        match output.recv_timeout(left) {
            Ok(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Err(why) => panic!("{word:?} never came ({why}): {seen:?}"),
        }
    }
}

/// Waits for the file that the screen writes, whole.
fn written(directory: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = fs::read_dir(directory).unwrap();
        let paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        if let [path] = paths.as_slice() {
            let text = fs::read_to_string(path).unwrap();
            if text.ends_with('\n') {
                return text;
            }
        }
        assert!(Instant::now() < deadline, "nothing was written: {paths:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// On a terminal: a program's figures to the byte, its site by name, a file that is valid, and an
/// end at `q` that leaves the program alone.
#[test]
fn a_screen_leads_to_the_site() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let mut workload = Workload::start("steps", &[]);
    let directory = std::env::temp_dir().join(format!("leaktrace-top-{}", workload.pid()));
    fs::create_dir(&directory).unwrap();
    let line = format!(
        "stty cols 120 rows 20; exec '{}' top --pid {} --min-age 0s --interval 200ms",
        agent::program().get_program().to_str().unwrap(),
        workload.pid(),
    );
    let mut script = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("TERM", "xterm")
        .current_dir(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let (sender, output) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = screen.read(&mut bytes) {
            if sender.send(bytes[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut seen = String::new();
    // The end of the first picture. Later ones send only the cells that change, so what is waited
    // for must differ from what stood there in every cell.
    see(&output, &mut seen, "q: quit");
    seen.clear();
    workload.talk.say("alloc 10 100");
    workload.talk.hear("did ");
    see(&output, &mut seen, "1000");
    keys.write_all(b"w").unwrap();
    let lines: Vec<_> = written(&directory).lines().map(validated).collect();
    let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).unwrap();
    assert_eq!(of("process")["process"]["pid"], workload.pid());
    for kind in ["process", "site"] {
        assert_eq!(of(kind)["live_count"], 10, "{kind}");
        assert_eq!(of(kind)["live_bytes"], 1000, "{kind}");
    }
    keys.write_all(b"\r").unwrap();
    see(&output, &mut seen, "site_alloc");
    keys.write_all(b"q").unwrap();
    assert!(workload::wait(&mut script).success());
    fs::remove_dir_all(&directory).unwrap();
    workload.assert_runs();
    workload.finish();
}
