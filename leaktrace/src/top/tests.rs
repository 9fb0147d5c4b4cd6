//! Screens from made-up reports: keys in, text out.

use std::time::Duration;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw::draw,
    screen::{Action, Screen},
};
use crate::report::model::{
    Counts, Coverage, Executable, Frame, Process, ProcessIdentity, Report, Site,
};

fn process(pid: u32, name: &str, live: u64) -> Process {
    let counts = Counts {
        live_bytes: live,
        ..Counts::default()
    };
    Process {
        identity: ProcessIdentity {
            pid,
            start_time_unix_ns: 1,
        },
        executable: Executable {
            name: name.to_owned(),
            ..Executable::default()
        },
        coverage: Coverage::Full,
        counts,
        sites: vec![Site {
            id: 7,
            counts,
            stack: vec![
                Frame {
                    function: Some(format!("keep_{name}")),
                    file: Some("keep.c".to_owned()),
                    line: Some(12),
                    ..Frame::default()
                },
                Frame {
                    module: Some("libx.so".to_owned()),
                    address: 0x40,
                    ..Frame::default()
                },
            ],
            ..Site::default()
        }],
        site_count: 1,
        ..Process::default()
    }
}

fn report(seconds: u64, processes: Vec<Process>) -> Report {
    Report {
        elapsed: Duration::from_secs(seconds),
        processes,
        ..Report::default()
    }
}

fn lines(screen: &Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(110, 12)).expect("no I/O");
    terminal.draw(|frame| draw(frame, screen)).expect("no I/O");
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(110);
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn press(screen: &mut Screen, code: KeyCode) -> Action {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn two_reports() -> Screen {
    let mut screen = Screen::default();
    screen.update(report(
        2,
        vec![process(1, "big", 9000), process(2, "leak", 10)],
    ));
    screen.update(report(
        4,
        vec![process(1, "big", 9000), process(2, "leak", 4106)],
    ));
    screen
}

/// Who grows stands first, however little it holds, with its change a second.
#[test]
fn growth_stands_first() {
    let shown = lines(&two_reports());
    assert!(
        shown[3].contains("leak") && shown[3].contains("+2.0 KiB/s"),
        "{shown:#?}"
    );
    assert!(
        shown[4].contains("big") && shown[4].contains("+0 B/s"),
        "{shown:#?}"
    );
}

/// From a process to its site to its stack and back, and the choice follows its row.
#[test]
fn keys_lead_to_stacks_and_back() {
    let mut screen = two_reports();
    press(&mut screen, KeyCode::Down);
    press(&mut screen, KeyCode::Char('s'));
    press(&mut screen, KeyCode::Char('s'));
    assert_eq!(screen.selected_index(), 0, "sorted by live, big is first");
    press(&mut screen, KeyCode::Enter);
    assert!(lines(&screen)[3].contains("keep_big"));
    press(&mut screen, KeyCode::Enter);
    let shown = lines(&screen);
    assert!(shown[2].contains("keep_big  keep.c:12"), "{shown:#?}");
    assert!(shown[3].contains("libx.so+0x40"), "{shown:#?}");
    press(&mut screen, KeyCode::Esc);
    press(&mut screen, KeyCode::Esc);
    assert!(lines(&screen)[3].contains("big"));
    assert_eq!(press(&mut screen, KeyCode::Char('w')), Action::Save);
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Action::Quit);
}

/// A paused screen keeps what it shows; after it, the change is over the whole pause.
#[test]
fn a_pause_holds_the_picture() {
    let mut screen = two_reports();
    press(&mut screen, KeyCode::Char(' '));
    let held = lines(&screen);
    screen.update(report(6, vec![process(3, "new", 5)]));
    assert_eq!(lines(&screen), held);
    press(&mut screen, KeyCode::Char(' '));
    screen.update(report(8, vec![process(2, "leak", 4106 + 4096)]));
    assert!(lines(&screen)[3].contains("+1.0 KiB/s"));
}

/// Foreign names cannot steer the terminal, who is not covered is no zero, and a report without
/// anyone bears every key.
#[test]
fn foreign_and_missing_things() {
    let mut screen = Screen::default();
    for code in [KeyCode::Up, KeyCode::Down, KeyCode::Enter, KeyCode::Esc] {
        press(&mut screen, code);
    }
    let mut blind = process(1, "a\x1b[2Jb", 0);
    blind.coverage = Coverage::None;
    screen.update(report(1, vec![blind]));
    let shown = lines(&screen);
    assert!(
        shown[3].contains("a\\x1b[2Jb") && shown[3].contains("not covered"),
        "{shown:#?}"
    );
    assert!(!shown[3].contains("0 B"), "{shown:#?}");
}
