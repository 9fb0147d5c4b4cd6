//! Owns fetching separate debug info by build id, from servers that the user named (`DEBUGINFOD_URLS`).
//! Must not know modules, symbols or what the file is for.
//!
//! Off unless that variable is set. What was fetched is kept where other tools that speak to such servers keep it. All
//! of it is bounded: each request, each file, and the run as a whole.
//! <https://sourceware.org/elfutils/Debuginfod.html>

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rustc_hash::FxHashSet;
use ureq::Agent;

/// One request, from the first byte to the last.
const REQUEST_PATIENCE: Duration = Duration::from_secs(60);

/// All requests of a run together, beyond which no more is asked.
const TOTAL_PATIENCE: Duration = Duration::from_secs(600);

/// Larger files are not taken. Of most programs it is a few megabytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// As many servers are asked.
const SERVERS_MAX: usize = 8;

/// Servers that did not answer as often as this are asked no more.
const FAILURES_MAX: u32 = 3;

/// A server.
struct Server {
    /// Without a slash at its end.
    url: String,
    failures: u32,
}

/// The servers, and what was asked of them.
pub(super) struct Debuginfod {
    servers: Vec<Server>,
    agent: Option<Agent>,
    directory: Option<PathBuf>,
    spent: Duration,
    /// Build ids of which nobody has debug info.
    unknown: FxHashSet<String>,
}

impl Debuginfod {
    /// By the environment, as `gdb` and `perf` understand it.
    pub(super) fn from_env() -> Self {
        let urls = env::var("DEBUGINFOD_URLS").unwrap_or_default();
        Self::new(&urls, cache_directory())
    }

    /// With servers separated by spaces, and a directory to keep files in.
    pub(super) fn new(urls: &str, directory: Option<PathBuf>) -> Self {
        let is_http = |url: &&str| url.starts_with("http://") || url.starts_with("https://");
        let urls = urls.split_whitespace().filter(is_http);
        let server = |url: &str| Server {
            url: url.trim_end_matches('/').to_owned(),
            failures: 0,
        };
        Self {
            servers: urls.take(SERVERS_MAX).map(server).collect(),
            agent: None,
            directory,
            spent: Duration::ZERO,
            unknown: FxHashSet::default(),
        }
    }

    /// Whether nobody was named.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The debug info of a build, in lower-case hex; `what` is its name for people.
    pub(super) fn fetch(&mut self, build_id: &str, what: &str) -> Option<File> {
        let is_id = build_id.len() >= 8 && build_id.bytes().all(|it| it.is_ascii_hexdigit());
        if self.servers.is_empty() || !is_id || self.unknown.contains(build_id) {
            return None;
        }
        if let Some(file) = self.kept(build_id) {
            return Some(file);
        }
        let found = (0..self.servers.len()).find_map(|index| self.ask(index, build_id, what));
        if found.is_none() {
            self.unknown.insert(build_id.to_owned());
        }
        found
    }

    /// What an earlier run or another tool fetched.
    fn kept(&self, build_id: &str) -> Option<File> {
        let path = self.directory.as_ref()?.join(build_id).join("debuginfo");
        let options = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let mut opening = fs::OpenOptions::new();
        let file = opening.read(true).custom_flags(options).open(path).ok()?;
        let status = file.metadata().ok()?;
        // Others leave an empty file where no server had any.
        let is_usable = status.is_file() && (1..=FILE_BYTES_MAX).contains(&status.size());
        is_usable.then_some(file)
    }

    fn ask(&mut self, index: usize, build_id: &str, what: &str) -> Option<File> {
        let server = &mut self.servers[index];
        let left = TOTAL_PATIENCE.saturating_sub(self.spent);
        if server.failures >= FAILURES_MAX || left.is_zero() {
            return None;
        }
        let url = format!("{}/buildid/{build_id}/debuginfo", server.url);
        let agent = self.agent.get_or_insert_with(agent);
        eprintln!("leaktrace: asking {} for debug info of {what}", server.url);
        let began = Instant::now();
        let answer = download(agent, &url, left.min(REQUEST_PATIENCE));
        self.spent += began.elapsed();
        match answer {
            Ok(file) => Some(self.keep(build_id, file)),
            Err(ureq::Error::StatusCode(404)) => None,
            Err(error) => {
                let server = &mut self.servers[index];
                server.failures += 1;
                eprintln!(
                    "leaktrace: no debug info of {what}: {}: {error}",
                    server.url
                );
                None
            }
        }
    }

    /// Keeps a file for later runs, where there is a place for it.
    fn keep(&self, build_id: &str, file: File) -> File {
        if let Some(directory) = &self.directory {
            // Without a copy it is fetched again next time.
            let _ = write_copy(&directory.join(build_id), &file);
        }
        file
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .max_redirects(4)
        .user_agent(concat!("leaktrace/", env!("CARGO_PKG_VERSION")));
    config.build().new_agent()
}

/// Into memory: nobody can change it there.
fn download(agent: &Agent, url: &str, patience: Duration) -> Result<File, ureq::Error> {
    let request = agent.get(url).config().timeout_global(Some(patience));
    let answer = request.build().call()?;
    let flags = MFdFlags::MFD_CLOEXEC;
    let memory = memfd_create("leaktrace-debuginfod", flags).map_err(io::Error::from)?;
    let mut file = File::from(memory);
    let body = answer.into_body().into_with_config();
    let mut body = body.limit(FILE_BYTES_MAX).reader();
    io::copy(&mut body, &mut file)?;
    Ok(file)
}

/// Writes a file under a name of its own first, so that nobody finds half of it.
fn write_copy(directory: &Path, file: &File) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".leaktrace-{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let written = options.open(&temporary).and_then(|mut target| {
        let mut offset = 0;
        let mut piece = vec![0; 1 << 20];
        loop {
            let count = std::os::unix::fs::FileExt::read_at(file, &mut piece, offset)?;
            if count == 0 {
                return fs::rename(&temporary, directory.join("debuginfo"));
            }
            target.write_all(&piece[..count])?;
            offset += count as u64;
        }
    });
    written.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Where elfutils keeps such files; only a directory of ours that nobody else can write.
fn cache_directory() -> Option<PathBuf> {
    let path = |name: &str| {
        env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    };
    let own = || path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
    let directory =
        path("DEBUGINFOD_CACHE_PATH").or_else(|| Some(own()?.join("debuginfod_client")))?;
    fs::create_dir_all(&directory).ok()?;
    let status = fs::symlink_metadata(&directory).ok()?;
    let is_ours = status.uid() == nix::unistd::geteuid().as_raw() && status.mode() & 0o022 == 0;
    (status.is_dir() && is_ours).then_some(directory)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        net::TcpListener,
        sync::mpsc,
        thread,
    };

    use super::*;

    const BUILD_ID: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A server that answers so many requests, one after the other; tells its address and what it was asked.
    fn serve(count: usize, answer: &'static [u8]) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (asked, asks) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..count {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                asked.send(lines.next().unwrap().unwrap()).unwrap();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                stream.write_all(answer).unwrap();
            }
        });
        (url, asks)
    }

    fn scratch(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("leaktrace-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn content(mut file: &File) -> String {
        use std::io::Seek as _;
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    /// A file is fetched by its build id once, and kept for later runs.
    #[test]
    fn a_file_is_fetched_once() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nELF!";
        let (url, asks) = serve(1, answer);
        let directory = scratch("debuginfod");
        let fetch = || Debuginfod::new(&url, Some(directory.clone())).fetch(BUILD_ID, "program");
        assert_eq!(content(&fetch().unwrap()), "ELF!");
        let asked = asks.recv().unwrap();
        assert_eq!(asked, format!("GET /buildid/{BUILD_ID}/debuginfo HTTP/1.1"));
        // The server is gone by now.
        assert_eq!(content(&fetch().unwrap()), "ELF!");
        fs::remove_dir_all(&directory).unwrap();
    }

    /// What no server has is asked for once.
    #[test]
    fn what_nobody_has_is_asked_for_once() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let (url, asks) = serve(2, answer);
        let mut servers = Debuginfod::new(&url, None);
        assert!(servers.fetch(BUILD_ID, "program").is_none());
        assert!(servers.fetch(BUILD_ID, "program").is_none());
        assert_eq!(asks.try_iter().count(), 1);
    }

    /// A server that cannot be reached is given up, and nobody is asked where none was named, or for what is no id.
    #[test]
    fn a_server_that_fails_is_given_up() {
        // A port that was free a moment ago refuses.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let mut servers = Debuginfod::new(&format!("http://{}", address.unwrap()), None);
        for number in 0..5 {
            let id = format!("{number}{}", &BUILD_ID[1..]);
            assert!(servers.fetch(&id, "program").is_none());
        }
        assert_eq!(servers.servers[0].failures, FAILURES_MAX);
        assert!(servers.fetch("../../etc/passwd", "program").is_none());
        let mut none = Debuginfod::new("file:///tmp ftp://host", None);
        assert!(none.servers.is_empty() && none.fetch(BUILD_ID, "program").is_none());
    }
}
