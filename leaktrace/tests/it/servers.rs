//! Owns real programs under load: servers of the distribution, which must not notice.
//! Must not know what they allocate.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{PATIENCE, agent::Agent, kernel, programs, stream::Process, workload::wait};

/// A server, killed when dropped.
pub struct Server {
    pub child: Child,
    port: u16,
}

impl Server {
    /// Starts one and waits until it accepts.
    pub fn start(command: &mut Command, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        drop(server.connect());
        server
    }

    pub fn connect(&self) -> TcpStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    return stream;
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        }
    }

    /// Asks it to end, which it must do well.
    fn end(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let status = wait(&mut self.child);
        assert!(status.success(), "the server failed: {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody uses at the moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// All calls were seen, and the figures add up, over the process and over its sites.
pub fn assert_adds_up(process: &Process) {
    let line = &process.line;
    assert_eq!(process.accuracy(), "exact", "{line:#}");
    assert_eq!(line["coverage"], "full", "{line:#}");
    let (count, bytes) = process.live();
    assert_eq!(
        count,
        process.figure("allocated_count") - process.figure("freed_count")
    );
    assert_eq!(
        bytes,
        process.figure("allocated_bytes") - process.figure("freed_bytes")
    );
    let by_site = process.by_function().into_values();
    let sum = by_site.fold((0, 0), |sum, live| (sum.0 + live.0, sum.1 + live.1));
    assert_eq!(sum, (count, bytes), "{line:#}");
    assert_eq!(process.lost("frees_implied"), 0, "{line:#}");
}

/// Sets and gets values of many sizes over some connections; every answer must be right.
fn load_memcached(server: &Server, rounds: u32) {
    let mut clients: Vec<_> = (0..4).map(|_| BufReader::new(server.connect())).collect();
    for round in 0..rounds {
        let index = round as usize % clients.len();
        let client = &mut clients[index];
        let value = format!("{round}-").repeat(1 + (round as usize * 37) % 300);
        let key = format!("key{}", round % 500);
        let set = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
        client.get_mut().write_all(set.as_bytes()).unwrap();
        assert_eq!(read_line(client), "STORED");
        client
            .get_mut()
            .write_all(format!("get {key}\r\n").as_bytes())
            .unwrap();
        assert_eq!(read_line(client), format!("VALUE {key} 0 {}", value.len()));
        assert_eq!(read_line(client), value);
        assert_eq!(read_line(client), "END");
        if round % 50 == 49 {
            // A new connection allocates what an old one gives back.
            *client = BufReader::new(server.connect());
        }
    }
}

fn read_line(from: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// memcached under load: every answer is right during the trace and after it, the report adds up,
/// and the server ends well.
#[test]
fn memcached() {
    let Some(_turn) = kernel::turn_with("memcached", || ()) else {
        return;
    };
    let port = free_port();
    let mut command = Command::new(programs::find("memcached").unwrap());
    command.args(["-u", "root", "-l", "127.0.0.1", "-t", "2", "-p"]);
    let server = Server::start(command.arg(port.to_string()), port);
    let pid = server.child.id();
    load_memcached(&server, 500);
    let agent = Agent::trace(&["--pid", &pid.to_string()]);
    load_memcached(&server, 5_000);
    let process = agent.interrupt().process(pid);
    assert_adds_up(&process);
    assert_eq!(process.name(), "memcached");
    assert!(process.figure("allocated_count") > 0, "{:#}", process.line);
    load_memcached(&server, 500);
    server.end();
}

/// The processes that this one made.
pub fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line == format!("PPid:\t{parent}"))
    };
    pids.filter(is_child).collect()
}

/// Fetches the file some times; every answer must be right.
pub fn load_nginx(server: &Server, rounds: u32, content: &str) {
    for _ in 0..rounds {
        let mut stream = server.connect();
        let request = "GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(content), "the file came back changed");
    }
}

pub fn start_nginx(content: &str) -> Server {
    let directory = programs::scratch().join("nginx");
    fs::create_dir_all(directory.join("files")).unwrap();
    fs::write(directory.join("files/file"), content).unwrap();
    let port = free_port();
    let place = directory.display();
    let text = format!(
        "user root; daemon off; worker_processes 2; pid {place}/pid; error_log {place}/log;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {place}/t1; proxy_temp_path {place}/t2;\n\
         fastcgi_temp_path {place}/t3; uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5;\n\
         server {{ listen 127.0.0.1:{port}; root {place}/files; }} }}\n"
    );
    let settings = directory.join("nginx.conf");
    fs::write(&settings, text).unwrap();
    let mut command = Command::new(programs::find("nginx").unwrap());
    Server::start(command.arg("-c").arg(settings), port)
}

/// nginx, its master and its workers, while it serves a file: every answer is right during the
/// trace and after it, the report adds up, and the server ends well.
#[test]
fn nginx() {
    let Some(_turn) = kernel::turn_with("nginx", || ()) else {
        return;
    };
    let content = "what the file says\n".repeat(1_000);
    let server = start_nginx(&content);
    load_nginx(&server, 50, &content);
    let mut pids = children(server.child.id());
    assert!(!pids.is_empty(), "nginx has workers once it has answered");
    pids.push(server.child.id());
    let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
    let args: Vec<&str> = texts.iter().flat_map(|pid| ["--pid", pid]).collect();
    let agent = Agent::trace(&args);
    load_nginx(&server, 500, &content);
    let stream = agent.interrupt();
    let processes: Vec<Process> = pids.iter().map(|pid| stream.process(*pid)).collect();
    processes.iter().for_each(assert_adds_up);
    let made: u64 = processes
        .iter()
        .map(|it| it.figure("allocated_count"))
        .sum();
    assert!(made > 500, "a request allocates: {made}");
    load_nginx(&server, 50, &content);
    server.end();
}
