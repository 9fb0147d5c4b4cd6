//! Owns real Go programs that do real work under the trace: it is done right, and nothing of what was seen
//! contradicts itself.
//! Must not know what they allocate.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use crate::harness::{
    agent::{self, Agent},
    golang, kernel, programs,
    stream::{Process, Stream},
};

/// What shows that a heap is not understood, or that an allocation was not seen.
const CONTRADICTIONS: [&str; 6] = [
    "frees_implied",
    "go_blocks_told_twice",
    "go_spans_unsound",
    "go_blocks_unreadable",
    "go_sweeps_unreadable",
    "allocations_lost",
];

/// The turn of a test, where a real program is installed.
fn turn<F: Fn()>(name: &str, here: F) -> Option<(kernel::Turn, PathBuf)> {
    let program = golang::real(name);
    if !program.is_file() {
        let remedy = "`cargo xtask setup --test-programs` installs it";
        kernel::skip(&here, &format!("{name} is not installed; {remedy}"));
        return None;
    }
    Some((kernel::turn(here)?, program))
}

/// An empty directory for a program's work.
fn workplace(name: &str) -> PathBuf {
    let directory = programs::scratch().join("real").join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Runs a program to its end under the trace, which must go well; gives what is told of it, and what it said.
fn trace(program: &Path, arguments: &[&str]) -> (Process, Vec<String>) {
    let report = programs::scratch().join("real.ndjson");
    let mut command = agent::program();
    // Not every site: there are ten thousand.
    command.args(["trace", "--format", "json", "--min-age", "0s", "--top", "9"]);
    // Room for all that it allocates, however slowly the agent reads.
    command.args(["--ring-size", "256MiB", "--output", path(&report), "--"]);
    let ended = Agent::run(command.arg(program).args(arguments)).wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let text = fs::read_to_string(&report).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let of_go = |process: &Process| process.line["runtime"] == "go";
    let process = Stream::parse(&lines)
        .last()
        .into_iter()
        .find(of_go)
        .unwrap();
    let line = &process.line;
    assert_eq!(process.accuracy(), "exact", "{line:#}");
    for contradiction in CONTRADICTIONS {
        assert_eq!(process.lost(contradiction), 0, "{line:#}");
    }
    (process, ended.stdout)
}

fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}

/// At least so many allocations were seen, and collections, which found garbage.
fn assert_busy(process: &Process, allocations: u64, collections: u64) {
    let line = &process.line;
    let allocated = process.figure("allocated_count");
    assert!(allocated > allocations, "{line:#}");
    assert!(
        line["go"]["gc_cycles"].as_u64() >= Some(collections),
        "{line:#}"
    );
    if collections > 0 {
        assert!(process.figure("freed_count") > allocated / 8, "{line:#}");
    }
}

/// esbuild minifies: it has neither symbols nor build information, and collects nothing.
#[test]
fn esbuild_minifies() {
    let Some((_turn, program)) = turn("esbuild", || ()) else {
        return;
    };
    let place = workplace("esbuild");
    let (input, output) = (place.join("in.js"), place.join("out.js"));
    let text: String = (0..2_000)
        .map(|it| format!("export function name{it}(a) {{ return a + {it}; }}\n"))
        .collect();
    fs::write(&input, text).unwrap();
    let to = format!("--outfile={}", output.display());
    let (process, _) = trace(&program, &[path(&input), "--minify", &to]);
    let made = fs::read_to_string(&output).unwrap();
    assert_eq!(made.matches("export function name").count(), 2_000);
    assert_busy(&process, 10_000, 0);
}

/// kubectl builds a customization of many resources.
#[test]
fn kubectl_customizes() {
    let Some((_turn, program)) = turn("kubectl", || ()) else {
        return;
    };
    let place = workplace("kubectl");
    let mut resources = String::new();
    for number in 0..60 {
        write!(
            resources,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app-{number}}}\nspec:\n  \
             selector: {{matchLabels: {{app: app-{number}}}}}\n  template:\n    \
             metadata: {{labels: {{app: app-{number}}}}}\n    spec:\n      \
             containers: [{{name: main, image: \"app:{number}\"}}]\n---\n"
        )
        .unwrap();
    }
    fs::write(place.join("all.yaml"), resources).unwrap();
    let customization = "resources: [all.yaml]\nnamePrefix: x-\n";
    fs::write(place.join("kustomization.yaml"), customization).unwrap();
    let output = place.join("out.yaml");
    let arguments = ["kustomize", path(&place), "-o", path(&output)];
    let (process, _) = trace(&program, &arguments);
    let made = fs::read_to_string(&output).unwrap();
    assert_eq!(made.matches("name: x-app-").count(), 60);
    assert_busy(&process, 200_000, 3);
}

/// helm renders a chart that it has made itself.
#[test]
fn helm_renders() {
    let Some((_turn, program)) = turn("helm", || ()) else {
        return;
    };
    let place = workplace("helm");
    let chart = place.join("chart");
    let mut create = Command::new(&program);
    create.arg("create").arg(&chart).env("HOME", &place);
    let status = create.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{create:?}: {status}");
    let output = place.join("out");
    let arguments = [
        "template",
        "it",
        path(&chart),
        "--output-dir",
        path(&output),
    ];
    let (process, _) = trace(&program, &arguments);
    let made = fs::read_to_string(output.join("chart/templates/deployment.yaml")).unwrap();
    assert!(made.contains("kind: Deployment"), "{made}");
    assert_busy(&process, 50_000, 1);
}

/// hugo renders a site; it has C and C++ inside, and so has two heaps.
#[test]
fn hugo_renders() {
    let Some((_turn, program)) = turn("hugo", || ()) else {
        return;
    };
    let place = workplace("hugo");
    fs::create_dir_all(place.join("layouts")).unwrap();
    fs::create_dir_all(place.join("content/posts")).unwrap();
    fs::write(place.join("hugo.toml"), "title = 'site'\n").unwrap();
    let list = "{{ range .Site.RegularPages }}<a>{{ .Title }}</a>{{ end }}";
    fs::write(place.join("layouts/home.html"), list).unwrap();
    let single = "<h1>{{ .Title }}</h1>{{ .Content }}";
    fs::write(place.join("layouts/single.html"), single).unwrap();
    for number in 0..80 {
        let text = format!("---\ntitle: Post {number}\n---\n\n# Hello *{number}*\n");
        fs::write(place.join(format!("content/posts/{number}.md")), text).unwrap();
    }
    let cache = place.join("cache");
    let arguments = ["--source", path(&place), "--cacheDir", path(&cache)];
    let (process, _) = trace(&program, &arguments);
    let made = fs::read_to_string(place.join("public/index.html")).unwrap();
    assert_eq!(made.matches("<a>").count(), 80);
    let allocators = process.line["allocators"].as_array().unwrap();
    assert!(allocators.len() > 1, "{:#}", process.line);
    assert_busy(&process, 100_000, 1);
}

/// Answers docker's client as its daemon does, for as long as it asks.
fn answer(mut stream: TcpStream, containers: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        let headers = lines.by_ref().map_while(Result::ok);
        headers.take_while(|line| !line.is_empty()).for_each(drop);
        let body = match request.contains("/containers/") {
            true => containers,
            false => "",
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + body).as_bytes()).is_err() {
            return;
        }
    }
}

/// docker lists containers, where the machine has it: its C library is inside.
#[test]
fn docker_lists() {
    let Some(program) = programs::find("docker") else {
        // No package that tests could install has one of a version that is supported.
        return;
    };
    let Some(_turn) = kernel::turn(|| ()) else {
        return;
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let of_one = |it| {
        format!(
            r#"{{"Id":"{it:064x}","Names":["/box-{it}"],"Image":"app","Command":"run","State":"running",
            "Status":"Up","Ports":[],"Labels":{{"a":"b"}},"HostConfig":{{}},"NetworkSettings":{{}},"Mounts":[]}}"#
        )
    };
    let all: Vec<String> = (0..2_000).map(of_one).collect();
    let containers = format!("[{}]", all.join(","));
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &containers);
        }
    });
    let format = "{{.Names}} {{.Status}}";
    let arguments = ["--host", &host, "ps", "--all", "--format", format];
    let (process, said) = trace(&program, &arguments);
    assert_eq!(said.len(), 2_000);
    assert_eq!(said[1_999], "box-1999 Up");
    assert_busy(&process, 50_000, 1);
}
