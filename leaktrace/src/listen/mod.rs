//! Owns the HTTP server behind `--listen`: who may ask, what, and how much at once.
//! Must not know how reports are made; it is shown them by a `Board`.
//!
//! It runs as root, so it gives strangers little to hold on to: GET alone, no body, small headers,
//! few connections, each with a deadline, and beyond loopback a token.

mod answer;
mod board;

use std::{
    convert::Infallible,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use http_body_util::Full;
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Semaphore, time::timeout};

pub use answer::ALIVE_WITHIN;
use answer::answer;
pub use board::Board;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 32;

/// How long a request's headers may take to arrive.
const HEADERS_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may last.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);

/// The most bytes of a request's head; hyper takes no less.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Shortest token that is taken: 16 characters of a random word are beyond guessing over a network.
const TOKEN_BYTES_MIN: usize = 16;

/// The most bytes of a token's file.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Who may ask for figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone who reaches the address.
    Open,
    /// Who shows this token.
    Token(Vec<u8>),
}

impl Access {
    /// Reads the token of a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is readable by others, or is too short to keep anybody out.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let shown = path.display();
        let about = fs::metadata(path).with_context(|| format!("failed to read {shown}"))?;
        ensure!(
            about.permissions().mode() & 0o007 == 0,
            "everybody may read the token in {shown}; remedy: chmod 600 it"
        );
        ensure!(
            about.is_file() && about.len() <= TOKEN_BYTES_MAX,
            "{shown} is no file with a token: it must be a regular file of at most {TOKEN_BYTES_MAX} bytes"
        );
        let text = fs::read(path).with_context(|| format!("failed to read {shown}"))?;
        let token = text.trim_ascii().to_vec();
        ensure!(
            token.len() >= TOKEN_BYTES_MIN && token.iter().all(u8::is_ascii_graphic),
            "the token in {shown} must be one word of at least {TOKEN_BYTES_MIN} characters; \
             remedy: openssl rand -hex 32 > {shown}"
        );
        Ok(Self::Token(token))
    }
}

/// A socket that listens and is not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    access: Arc<RwLock<Access>>,
}

impl Listener {
    /// Takes the address, so that a wrong one is told before anything is traced.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours, or strangers could reach it without a token.
    pub fn bind(address: SocketAddr, access: Access) -> anyhow::Result<Self> {
        if access == Access::Open && !address.ip().is_loopback() {
            bail!(
                "{address} can be reached from other hosts; remedy: a token by --token-file, or a \
                 loopback address such as 127.0.0.1:{}",
                address.port()
            );
        }
        let socket = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address}; remedy: another --listen"))?;
        socket
            .set_nonblocking(true)
            .context("failed to prepare the socket of --listen")?;
        Ok(Self {
            socket,
            access: Arc::new(RwLock::new(access)),
        })
    }

    /// Who may ask: what is put there holds for every request from then on.
    #[must_use]
    pub fn access(&self) -> Arc<RwLock<Access>> {
        Arc::clone(&self.access)
    }

    /// The address, with the port that was given where 0 was asked for.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.socket
            .local_addr()
            .context("failed to ask for the address of --listen")
    }

    /// Serves for ever. To be spawned inside of a runtime.
    ///
    /// # Errors
    ///
    /// When the socket cannot be watched.
    pub async fn serve(self, board: Arc<Board>) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.socket)
            .context("failed to watch the socket of --listen")?;
        let access = self.access;
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&room).acquire_owned().await?;
            let Ok((stream, _)) = listener.accept().await else {
                // One that went away, or no descriptor left: the others must not suffer from it.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (board, access) = (Arc::clone(&board), Arc::clone(&access));
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let access = access.read().unwrap_or_else(PoisonError::into_inner);
                    let response = respond(&request, &access, &board);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS_PATIENCE)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                // Whatever a stranger does wrong ends with the connection.
                let _ = timeout(CONNECTION_PATIENCE, connection).await;
                drop(place);
            });
        }
    }
}

fn respond(request: &Request<Incoming>, access: &Access, board: &Board) -> Response<Full<Bytes>> {
    answer(
        request.method(),
        request.uri(),
        request.headers(),
        access,
        board,
    )
}

#[cfg(test)]
mod tests;
