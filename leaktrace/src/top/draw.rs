//! Owns how the live screen looks.
//! Must not know the tracer, the terminal or clocks.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Paragraph, Row, Table, TableState},
};

use super::screen::{Page, Screen};
use crate::report::{
    escape::visible,
    model::{self, AccuracyKind, Counts, ProcessIdentity, Verdict},
    units,
};

const KEYS: &str =
    "enter: look inside  esc: back  up/down: choose  s: sort  space: pause  w: write  q: quit";

/// Draws the screen.
pub fn draw(frame: &mut Frame, screen: &Screen) {
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, body, foot] = parts.areas(frame.area());
    frame.render_widget(Paragraph::new(heading(screen)), head);
    match screen.page {
        Page::Processes => processes(frame, screen, body),
        Page::Sites(identity) => sites(frame, screen, identity, body),
        Page::Stack(identity, id) => stack(frame, screen, identity, id, body),
    }
    let foot_text = if screen.message.is_empty() {
        KEYS.to_owned()
    } else {
        visible(&screen.message, false).into_owned()
    };
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(foot_text).style(dim), foot);
}

fn heading(screen: &Screen) -> Vec<Line<'static>> {
    let report = &screen.report;
    let mut first = format!(
        "leaktrace top  {}  {} more with nothing traced  sorted by {}",
        units::duration(report.elapsed),
        units::counted(report.quiet_process_count, "process", false),
        screen.order.word()
    );
    if screen.is_paused {
        first.push_str("  PAUSED");
    }
    let lost: Vec<String> = report
        .lost
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let second = match screen.page {
        _ if !lost.is_empty() => Line::styled(
            format!("lost since the last report: {}", lost.join(", ")),
            Style::new().fg(Color::Red),
        ),
        Page::Processes => Line::default(),
        Page::Sites(identity) | Page::Stack(identity, _) => Line::raw(inside(screen, identity)),
    };
    vec![
        Line::styled(first, Style::new().add_modifier(Modifier::BOLD)),
        second,
    ]
}

fn inside(screen: &Screen, identity: ProcessIdentity) -> String {
    match screen.process(identity) {
        Some(process) => format!(
            "{} {}  {} of {} listed",
            identity.pid,
            visible(&process.executable.name, false),
            process.sites.len(),
            units::counted(process.site_count, "site", false)
        ),
        None => format!("{} holds nothing traced any more", identity.pid),
    }
}

fn processes(frame: &mut Frame, screen: &Screen, area: Rect) {
    let rows = screen.processes().into_iter().map(|process| {
        let name = visible(&process.executable.name, false).into_owned();
        let mut cells = vec![Cell::from(process.identity.pid.to_string())];
        if process.has_figures() {
            let key = (process.identity, None);
            let growth = screen.growth(key, process.growth_bytes_per_second);
            cells.extend(figures(process.verdict, growth, &process.counts));
        } else {
            cells.push(Cell::from("not covered"));
            cells.extend((0..4).map(|_| Cell::from("-")));
        }
        cells.push(Cell::from(trust(process)));
        cells.push(Cell::from(name));
        Row::new(cells)
    });
    let widths = [8, 11, 13, 10, 10, 10, 8];
    table(
        frame,
        screen,
        area,
        rows.collect(),
        &widths,
        &[
            "PID",
            "VERDICT",
            "GROWTH",
            "LONG-LIVED",
            "LIVE",
            "ALLOCATED",
            "FIGURES",
            "PROGRAM",
        ],
    );
}

fn trust(process: &model::Process) -> &'static str {
    match process.accuracy.kind {
        _ if process.exited.is_some() => "exited",
        AccuracyKind::Exact if process.coverage != model::Coverage::Full => process.coverage.word(),
        kind => kind.word(),
    }
}

fn sites(frame: &mut Frame, screen: &Screen, identity: ProcessIdentity, area: Rect) {
    let rows = screen.sites(identity).into_iter().map(|site| {
        let growth = screen.growth((identity, Some(site.id)), site.growth_bytes_per_second);
        let mut cells = figures(site.verdict, growth, &site.counts);
        let place = site.stack.first().map(place).unwrap_or_default();
        cells.push(Cell::from(place));
        Row::new(cells)
    });
    let widths = [11, 13, 10, 10, 10];
    table(
        frame,
        screen,
        area,
        rows.collect(),
        &widths,
        &[
            "VERDICT",
            "GROWTH",
            "LONG-LIVED",
            "LIVE",
            "ALLOCATED",
            "ALLOCATED BY",
        ],
    );
}

fn stack(frame: &mut Frame, screen: &Screen, identity: ProcessIdentity, id: u64, area: Rect) {
    let sites = screen.sites(identity);
    let lines: Vec<Line> = match sites.iter().find(|site| site.id == id) {
        Some(site) => {
            let cut = site.stack_truncated.iter();
            let cut = cut.map(|why| format!("(the stack ends here: {})", visible(why, false)));
            let frames = site.stack.iter().map(place).chain(cut);
            frames.map(Line::from).collect()
        }
        None => vec![Line::raw("this site is not among those listed any more")],
    };
    frame.render_widget(Paragraph::new(lines).scroll((screen.scroll, 0)), area);
}

/// A frame in one line: its function and line, or else its file and offset.
fn place(frame: &model::Frame) -> String {
    let module = frame.module.as_deref().unwrap_or("?");
    let mut text = match &frame.function {
        Some(function) => function.clone(),
        None => format!("{module}+{:#x}", frame.address),
    };
    if let Some(file) = &frame.file {
        text.push_str(&format!("  {file}"));
        if let Some(line) = frame.line {
            text.push_str(&format!(":{line}"));
        }
    }
    visible(&text, false).into_owned()
}

fn figures(verdict: Verdict, growth: Option<f64>, counts: &Counts) -> Vec<Cell<'static>> {
    let colour = match verdict {
        Verdict::Growing => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Verdict::Saturating => Style::new().fg(Color::Yellow),
        Verdict::Stable => Style::new().fg(Color::Green),
        Verdict::Young => Style::new().add_modifier(Modifier::DIM),
    };
    vec![
        Cell::from(verdict.word()).style(colour),
        Cell::from(growth.map_or_else(|| "-".to_owned(), units::trend)),
        Cell::from(units::bytes(counts.long_lived_bytes)),
        Cell::from(units::bytes(counts.live_bytes)),
        Cell::from(units::bytes(counts.allocated_bytes)),
    ]
}

/// Columns of those widths, and a last one that takes what is left.
fn table(
    frame: &mut Frame,
    screen: &Screen,
    area: Rect,
    rows: Vec<Row>,
    widths: &[u16],
    titles: &[&'static str],
) {
    let widths = widths.iter().map(|width| Constraint::Length(*width));
    let widths = widths.chain([Constraint::Min(10)]);
    let mut state = TableState::new().with_selected(Some(screen.selected_index()));
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let table = Table::new(rows, widths)
        .header(Row::new(titles.to_vec()).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(reversed);
    frame.render_stateful_widget(table, area, &mut state);
}
