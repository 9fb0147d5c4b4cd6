//! Owns the forms that other programs read: profiles by Go's tool, pages by a browser.
//! Must not know how they are written.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{
    agent::{self, Agent},
    golang, kernel, programs,
    workload::Workload,
};

/// A stream that the project's own tests keep, with one of everything.
const SAVED: &str = "src/report/golden/run.ndjson";

/// The oldest and the newest of Go's tools.
pub const TOOLS: [&str; 2] = [
    golang::VERSIONS[0],
    golang::VERSIONS[golang::VERSIONS.len() - 1],
];

fn saved() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(SAVED)
}

/// Renders a stream into a file, and runs the agent to do it.
fn render(stream: &Path, format: &str, name: &str) -> std::path::PathBuf {
    let path = programs::scratch().join(name);
    let mut command = agent::program();
    command.arg("render").arg(stream).args(["--format", format]);
    let ended = Agent::run(command.arg("--output").arg(&path)).wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.stdout.is_empty() && ended.stderr.is_empty(),
        "{ended:#?}"
    );
    path
}

/// What Go's tool says of a profile.
pub fn pprof(version: &str, profile: &Path, args: &[&str]) -> String {
    let mut tool = golang::command(version);
    // Nothing that the user has set up or collected.
    tool.env("HOME", programs::scratch())
        .env("PPROF_TMPDIR", programs::scratch());
    tool.args(["tool", "pprof"]).args(args).arg(profile);
    let said = tool.output().unwrap();
    assert!(said.status.success(), "{said:#?}");
    String::from_utf8(said.stdout).unwrap()
}

/// Go's tool, old or new, finds the values, the functions with their lines, the inlined ones, the
/// files with their build ids, and whose each sample is.
#[test]
fn go_reads_profiles() {
    if !golang::is_there(|| ()) {
        return;
    }
    let profile = render(&saved(), "pprof", "saved.pb.gz");
    for version in TOOLS {
        let raw = pprof(version, &profile, &["-raw"]);
        for word in [
            "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes",
            "     140000  300000000     126976  276824064: ",
            "comm:[postgres]",
            "pid:[4312]",
            "verdict:[growing]",
            "AllocSetAllocFromNewBlock /build/postgresql-17/src/backend/utils/mmgr/aset.c:1034",
            "postgres 5f1d3c2b7a9e4d6080112233445566778899aabb [FN]",
        ] {
            assert!(raw.contains(word), "{version}: no {word} in:\n{raw}");
        }
        let top = pprof(version, &profile, &["-top", "-nodefraction=0", "-unit=B"]);
        let first = top
            .lines()
            .find(|line| line.contains("AllocSetAllocFromNewBlock"));
        assert!(
            first.is_some_and(|line| line.trim().starts_with("276824064B")),
            "{top}"
        );
        let one = pprof(
            version,
            &profile,
            &["-top", "-sample_index=inuse_objects", "-tagfocus=pid=9120"],
        );
        assert!(
            one.contains("load") && !one.contains("copyObjectImpl"),
            "{one}"
        );
    }
}

/// A trace writes a profile by itself, whose bytes are what the program holds.
#[test]
fn a_trace_makes_a_profile() {
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    if !golang::is_there(|| ()) {
        return;
    }
    let mut workload = Workload::start("steps", &[]);
    let path = programs::scratch().join("trace.pb.gz");
    let mut command = agent::program();
    command.args(["trace", "--min-age", "0s", "--format", "pprof", "--pid"]);
    command.arg(workload.pid_text()).arg("--output").arg(&path);
    let mut agent = Agent::run(&mut command);
    agent.await_stderr("leaktrace: tracing ");
    for step in ["alloc 10 50", "alloc 5 60", "free 3"] {
        workload.talk.say(step);
        workload.talk.hear("did ");
    }
    agent.signal(nix::sys::signal::Signal::SIGINT);
    let ended = agent.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let peek = |index: &str| -> u64 {
        let args = ["-top", "-cum", "-unit=B", "-focus=site_alloc", index];
        let top = pprof(TOOLS[1], &path, &args);
        let line = top.lines().find(|line| line.ends_with(" site_alloc"));
        let line = line.unwrap_or_else(|| panic!("no site_alloc in:\n{top}"));
        let figure = line.split_whitespace().next().unwrap();
        figure.trim_end_matches('B').parse().unwrap()
    };
    let live: u64 = 10 * 50 + 5 * 60;
    let allocated = peek("-sample_index=alloc_space");
    assert_eq!(allocated, live);
    assert_eq!(peek("-sample_index=alloc_objects"), 15);
    assert_eq!(peek("-sample_index=inuse_objects"), 12);
    assert!(peek("-sample_index=inuse_space") < live);
    fs::remove_file(path).unwrap();
    workload.finish();
}

/// A browser that shows a page without a screen.
struct Browser;

impl Browser {
    /// Where the test says that it is skipped, if there is none.
    fn find<F: Fn()>(here: F) -> Option<Self> {
        let is_there = Command::new("chromium").arg("--version").output().is_ok();
        if !is_there {
            let why = "chromium is not installed; `cargo xtask setup --test-programs` installs it";
            kernel::skip(&here, why);
        }
        is_there.then_some(Self)
    }

    fn show(&self, page: &Path, args: &[&str]) -> String {
        let mut chromium = Command::new("chromium");
        // As root it has no sandbox; nothing but our own page is shown.
        chromium.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ]);
        chromium.arg(format!(
            "--user-data-dir={}",
            programs::scratch().join("chromium").display()
        ));
        chromium
            .args(args)
            .arg(format!("file://{}", page.display()));
        let said = chromium.stdin(Stdio::null()).output().unwrap();
        assert!(said.status.success(), "{said:#?}");
        String::from_utf8(said.stdout).unwrap()
    }

    /// The page as it is once its script has run.
    fn document(&self, page: &Path) -> String {
        self.show(page, &["--dump-dom"])
    }

    /// What a script finds on a page that is this wide, in a copy whose policy lets it run.
    fn ask(&self, page: &Path, width: u32, script: &str) -> String {
        let text = fs::read_to_string(page).unwrap();
        let (before, rest) = text.split_once("<meta http-equiv=").unwrap();
        let (_, after) = rest.split_once('>').unwrap();
        let script = format!("<script>document.title = (() => {{ {script} }})();</script></body>");
        let text = format!("{before}{after}").replace("</body>", &script);
        let copy = programs::scratch().join("asked.html");
        fs::write(&copy, text).unwrap();
        let shown = self.show(
            &copy,
            &["--dump-dom", &format!("--window-size={width},900")],
        );
        let title = shown.split_once("<title>").unwrap().1;
        title.split_once("</title>").unwrap().0.to_owned()
    }
}

/// In a browser the page's script runs under its own policy, and nothing else does, whatever the
/// traced process has named.
#[test]
fn a_browser_shows_the_page() {
    let Some(browser) = Browser::find(|| ()) else {
        return;
    };
    let attack = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>";
    let text = fs::read_to_string(saved()).unwrap();
    let stream = programs::scratch().join("attack.ndjson");
    fs::write(
        &stream,
        text.replace("AllocSetAlloc\"", &format!("{attack}\"")),
    )
    .unwrap();
    let page = render(&stream, "html", "attack.html");
    let shown = browser.document(&page);
    assert!(shown.contains("class=\"js\""), "the script does not run");
    assert!(
        shown.contains(">5 of 5</output>"),
        "the table is not filtered"
    );
    assert!(
        !shown.contains("<title>owned") && !shown.contains("<img"),
        "{shown}"
    );
    assert!(
        shown.contains("&lt;img src=x onerror"),
        "the name is not shown"
    );
    let picture = programs::scratch().join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    browser.show(&page, &[&screenshot, "--window-size=1280,2000"]);
    let bytes = fs::read(&picture).unwrap();
    assert!(
        bytes.starts_with(b"\x89PNG") && bytes.len() > 50_000,
        "{}",
        bytes.len()
    );
}

/// The table sorts, filters and opens, the graph zooms and finds, and nothing is wider than a window.
#[test]
fn the_page_can_be_used() {
    let Some(browser) = Browser::find(|| ()) else {
        return;
    };
    let page = render(&saved(), "html", "used.html");
    let names = "const names = () => [...document.getElementById('sites').tBodies].filter((b) => !b.hidden)\
        .map((b) => b.querySelector('code').textContent).join();";
    let check = |script: &str, expected: &str| {
        assert_eq!(
            browser.ask(&page, 1280, &format!("{names} {script}")),
            expected,
            "{script}"
        );
    };
    let all = "AllocSetAllocFromNewBlock,copyObjectImpl,render::Atlas::glyph(char32_t),load,\\u{202e}niam\\x1b[2J";
    check("return names();", all);
    let click = "const heads = document.querySelectorAll('#sites th button'); heads[4].click();";
    let by_count = "copyObjectImpl,AllocSetAllocFromNewBlock,render::Atlas::glyph(char32_t),load,\\u{202e}niam\\x1b[2J";
    check(&format!("{click} return names();"), by_count);
    let filter = "const f = document.getElementById('filter'); f.value = 'RENDER atlas.cpp'; f.dispatchEvent(new Event('input'));";
    check(
        &format!("{filter} return names();"),
        "render::Atlas::glyph(char32_t)",
    );
    let choose = "const v = document.getElementById('verdict'); v.value = 'growing'; v.dispatchEvent(new Event('change'));";
    check(
        &format!("{choose} return names();"),
        "AllocSetAllocFromNewBlock",
    );
    let open = "const row = document.querySelector('#s2 tr.detail'); const before = row.offsetHeight;\
        document.querySelector('#s2 tr.main').click(); return [before, row.offsetHeight > 300].join();";
    check(open, "0,true");
    let zoom = "const g = [...document.querySelectorAll('#flame g.frame')];\
        const of = (name) => g.find((it) => it.querySelector('title').textContent.startsWith(name));\
        of('renderer-70777').dispatchEvent(new MouseEvent('click', {bubbles: true}));\
        const hidden = of('worker-9120').classList.contains('gone');\
        const width = of('renderer-70777').querySelector('rect').getAttribute('width');\
        document.getElementById('reset').click();\
        return [hidden, width, of('worker-9120').classList.contains('gone')].join();";
    check(zoom, "true,100%,false");
    let find = "const s = document.getElementById('search'); s.value = 'copyobject'; s.dispatchEvent(new Event('input'));\
        return document.querySelectorAll('#flame .found').length + ' ' + document.getElementById('flame-said').textContent;";
    check(find, "30 144.1 MiB, 29.70%, in 30 frames");
    for width in [1280, 800, 500] {
        let fits = "return document.documentElement.scrollWidth <= innerWidth;";
        assert_eq!(browser.ask(&page, width, fits), "true", "{width}");
    }
}
