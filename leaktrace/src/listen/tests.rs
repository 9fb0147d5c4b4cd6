//! Tests the server over real sockets of this machine.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    time::Instant,
};

use super::*;
use crate::report::samples;

/// A server on a free port, which lives as long as the runtime.
fn serve(board: &Arc<Board>) -> (tokio::runtime::Runtime, SocketAddr) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Access::Open).unwrap();
    let address = listener.address().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(listener.serve(Arc::clone(board)));
    (runtime, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream
}

/// Sends bytes and reads until the server closes.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A scrape is answered whole, with its length and type.
#[test]
fn a_scrape_is_answered() {
    let board = Arc::new(Board::default());
    board.show(Arc::new(samples::rich()));
    let (_runtime, address) = serve(&board);
    let answer = exchange(
        address,
        "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    assert_eq!(length.unwrap().parse(), Ok(body.len()));
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.contains("\nleaktrace_process_live_bytes{"), "{body}");
}

/// A request that is none, or larger than any, ends the connection and nothing else.
#[test]
fn strangers_do_no_harm() {
    let (_runtime, address) = serve(&Arc::new(Board::default()));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    for request in ["\0\0\0\r\n\r\n", "GET\r\n\r\n", long.as_str()] {
        let mut stream = connect(address);
        // The server may hang up before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let status = String::from_utf8_lossy(&answer);
        assert!(!status.starts_with("HTTP/1.1 200"), "{status}");
    }
    let health = exchange(
        address,
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
}

/// Whoever connects and says nothing is hung up on, so that all places cannot be taken for ever.
#[test]
fn silent_connections_make_room() {
    let (_runtime, address) = serve(&Arc::new(Board::default()));
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    let began = Instant::now();
    let health = exchange(
        address,
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(began.elapsed() < Duration::from_secs(25));
    drop(silent);
}

/// Figures are not offered to other hosts unless a token guards them.
#[test]
fn other_hosts_need_a_token() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let error = Listener::bind(everywhere, Access::Open).unwrap_err();
    assert!(error.to_string().contains("--token-file"), "{error}");
    let token = Access::Token(b"0123456789abcdef".to_vec());
    assert!(Listener::bind(everywhere, token).is_ok());
}

/// A token that others can read, or that keeps nobody out, is refused with the remedy.
#[test]
fn weak_tokens_are_refused() {
    let folder = std::env::temp_dir().join(format!("leaktrace-token-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let check = |text: &str, mode: u32, expected: Result<&[u8], &str>| {
        let path = folder.join("token");
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match (Access::from_file(&path), expected) {
            (Ok(access), Ok(token)) => assert_eq!(access, Access::Token(token.to_vec())),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    };
    check("0123456789abcdef\n", 0o600, Ok(b"0123456789abcdef"));
    check("0123456789abcdef", 0o644, Err("chmod 600"));
    check("short", 0o600, Err("at least 16"));
    check("two words of a token", 0o600, Err("one word"));
    check("", 0o600, Err("at least 16"));
    fs::remove_dir_all(&folder).unwrap();
}
