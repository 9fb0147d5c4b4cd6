//! Owns the programs whose stacks are compared, and what makes them allocate.
//! Must not know what is compared.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    harness::{golang, programs},
    servers,
};

/// A running program; killed when dropped.
pub struct Subject {
    pub pid: u32,
    child: Option<Child>,
    load: Box<dyn FnMut()>,
}

impl Subject {
    /// Makes it allocate for a moment.
    pub fn load(&mut self) {
        (self.load)();
    }

    /// A program that allocates by itself, once it has said that it is ready.
    fn alone(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{command:?} said {line:?}");
        Self {
            pid: child.id(),
            child: Some(child),
            load: Box::new(|| std::thread::sleep(Duration::from_millis(20))),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// As Debian builds it, with jemalloc.
pub fn redis() -> Subject {
    let port = servers::free_port();
    let mut command = Command::new(programs::find("redis-server").unwrap());
    command.args(["--save", "", "--bind", "127.0.0.1", "--port"]);
    command.arg(port.to_string());
    let server = servers::Server::start(&mut command, port);
    let mut client = server.connect();
    let pid = server.child.id();
    let mut round = 0_u64;
    let load = move || {
        // It lives as long as its load.
        let _ = &server;
        let mut text = String::new();
        for _ in 0..50 {
            round += 1;
            let key = round % 200;
            let value = "v".repeat(1 + (round as usize * 37) % 500);
            text += &format!(
                "SET k{key} {value}\r\nLPUSH l{key} {value}\r\nHSET h{key} f{round} {value}\r\n"
            );
            text +=
                &format!("ZADD z{key} {round} m{round}\r\nSADD s{key} {value}\r\nINCR n{key}\r\n");
            text += &format!(
                "SORT l{key} ALPHA LIMIT 0 1\r\nEVAL return{{KEYS[1]..ARGV[1]}} 1 {key} {round}\r\n"
            );
        }
        text += "ECHO over\r\n";
        client.write_all(text.as_bytes()).unwrap();
        read_until(&mut client, b"over\r\n");
    };
    Subject {
        pid,
        child: None,
        load: Box::new(load),
    }
}

fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut answer = Vec::new();
    let mut piece = [0; 65536];
    while !answer.ends_with(end) {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the server hangs up");
        answer.extend_from_slice(&piece[..count]);
    }
}

/// Its worker.
pub fn nginx() -> Subject {
    let content = "what the file says\n".repeat(1_000);
    let server = servers::start_nginx(&content);
    servers::load_nginx(&server, 5, &content);
    let pid = *servers::children(server.child.id()).first().unwrap();
    Subject {
        pid,
        child: None,
        load: Box::new(move || servers::load_nginx(&server, 10, &content)),
    }
}

const PYTHON: &str = "
import json, re, collections, sys
print('ready', flush=True)
class Node:
    def __init__(self, depth):
        self.pad = bytearray(700 + depth)
        self.next = Node(depth - 1) if depth else None
def walk(n):
    return 1 + walk(n.next) if n else 0
def gen(n):
    for i in range(n):
        yield [i] * 200
while True:
    walk(Node(10))
    json.loads(json.dumps({str(i): ['x' * 600, i] for i in range(20)}))
    sorted(gen(10), key=lambda it: bytes(600 + it[0]))
    re.compile('a+(b|c)*' + 'd' * 3).sub(lambda m: 'y' * 700, 'zabcddd' * 5)
    collections.Counter('mississippi' * 100).most_common(2)
";

/// Recursion, generators, callbacks from C.
pub fn python() -> Subject {
    Subject::alone(Command::new(programs::find("python3").unwrap()).args(["-c", PYTHON]))
}

const NODE: &str = "
console.log('ready');
function deep(n) { return n ? deep(n - 1) + 1 : Buffer.allocUnsafeSlow(20000).length; }
function turn() {
  for (let i = 0; i < 20; i++) {
    deep(i);
    [3, 1, 2].sort((a, b) => Buffer.alloc(9000 + a).length - b);
    JSON.parse(JSON.stringify({ list: Array.from({ length: 50 }, (_, i) => 'n' + i) }));
    new TextDecoder().decode(new TextEncoder().encode('text '.repeat(500)));
    new Map(Object.entries(process.memoryUsage())); new Float64Array(3000);
  }
  setTimeout(turn, 5);
}
turn();
";

/// Callbacks from C++ into code that is compiled while it runs.
pub fn node() -> Subject {
    Subject::alone(Command::new(programs::find("node").unwrap()).args(["-e", NODE]))
}

/// One session without a server, which takes its statements from its input.
pub fn postgres() -> Subject {
    // It refuses to be root. Its directory must lie where nobody else can go in turn.
    const NOBODY: u32 = 65_534;
    let bin = postgres_bin();
    let directory = env::temp_dir().join(format!("leaktrace-postgres-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    let as_nobody = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut initdb = as_nobody("initdb");
    initdb
        .args(["--no-sync", "-U", "nobody", "-D"])
        .arg(&directory);
    assert!(initdb.status().unwrap().success(), "{initdb:?}");
    let mut command = as_nobody("postgres");
    command.arg("--single").arg("-D").arg(&directory);
    let mut child = command
        .arg("postgres")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "create table t(a int, b text)").unwrap();
    let statements = "insert into t select i, repeat('x', i % 900) from generate_series(1, 300) i\n\
         select count(*), max(b) from t x join t y using (a) where x.b like '%x' group by x.a % 7 order by 2 desc\n\
         select string_agg(md5(i::text), ',') from generate_series(1, 2000) i\n\
         with recursive r(n) as (select 1 union all select n + 1 from r where n < 300) select sum(n) from r\n\
         do $$ begin for i in 1..50 loop perform length(repeat('ab', i * 100)); end loop; end $$\n\
         delete from t where a % 2 = 0\n";
    let load = move || {
        input.write_all(statements.as_bytes()).unwrap();
        // It reads on when it is done with them; a pipe holds some thousands.
        std::thread::sleep(Duration::from_millis(20));
    };
    Subject {
        pid: child.id(),
        child: Some(child),
        load: Box::new(load),
    }
}

/// Where Debian has the newest version's programs.
pub fn postgres_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("Debian's package is installed");
    let newest = versions.flatten().map(|it| it.path()).max();
    newest.expect("a version is installed").join("bin")
}

/// A program of `tests/workloads` by its compiler.
pub fn compiled(compiler: &Path, args: &[&str], source: &str, output: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/workloads")
        .join(source);
    let path = programs::scratch().join(output);
    if env::var_os("LEAKTRACE_PREBUILT").is_some() {
        // A guest without compilers was given what the host made.
        return path;
    }
    let mut command = Command::new(compiler);
    command.args(args).arg(source).arg("-o").arg(&path);
    let status = command.status().expect("the compiler is there");
    assert!(status.success(), "{command:?}: {status}");
    path
}

/// C++ as it is released.
pub fn cplusplus() -> Subject {
    let flags = ["-O2", "-std=c++17", "-fomit-frame-pointer", "-pthread"];
    Subject::alone(&mut Command::new(compiled(
        Path::new("c++"),
        &flags,
        "templates.cc",
        "templates",
    )))
}

/// Rust as it is released.
pub fn rust() -> Subject {
    let program = rust_program();
    // The linker that shifts code against pages, so that a load bias can be got wrong.
    let bytes = fs::read(&program).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|it| it == text);
    assert!(has(b"Linker: LLD"), "this rustc links by lld");
    Subject::alone(&mut Command::new(program))
}

/// The Rust program of `tests/workloads`.
pub fn rust_program() -> PathBuf {
    // cargo tells which one it is; the compiler lies beside it.
    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let flags = ["--edition", "2024", "-O", "-C", "strip=debuginfo"];
    compiled(
        &cargo.with_file_name("rustc"),
        &flags,
        "rust/tasks.rs",
        "tasks",
    )
}

/// A server on tokio, as it is released.
pub fn tokio() -> Subject {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/rust/served");
    let target = programs::scratch().join("served");
    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut build = Command::new(&cargo);
    // As anybody builds it, and not as the agent is.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        build.env_remove(name);
    }
    build.env("RUSTC", cargo.with_file_name("rustc"));
    build.args(["build", "--release", "--locked", "--quiet"]);
    build.arg("--target-dir").arg(&target);
    let status = build.current_dir(directory).status().unwrap();
    assert!(status.success(), "{build:?}: {status}");
    Subject::alone(&mut Command::new(target.join("release/served")))
}

/// Go that calls C.
pub fn cgo() -> Subject {
    let path = programs::scratch().join("crossing");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/go/crossing.go");
    let mut build = golang::command(golang::VERSIONS[golang::VERSIONS.len() - 1]);
    build.env("CGO_ENABLED", "1").args(["build", "-o"]);
    let status = build.arg(&path).arg(source).status().unwrap();
    assert!(status.success(), "{build:?}: {status}");
    Subject::alone(&mut Command::new(path))
}
