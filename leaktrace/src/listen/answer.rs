//! Owns what is answered to a request: a function of the request and of what the board shows.
//! Must not know sockets.

use std::time::Duration;

use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode, Uri,
    body::Bytes,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};

use super::{Access, Board};
use crate::{
    host::own::OwnFigures,
    report::{
        metrics::{self, Agent},
        model::{Host, Process, Report},
        pprof,
        snapshot::Snapshot,
    },
};

/// How old the loop's last sign of life may be: it beats many times a second.
pub const ALIVE_WITHIN: Duration = Duration::from_secs(30);

const PLAIN: &str = "text/plain; charset=utf-8";

const INDEX: &str = "leaktrace\n\n\
    /metrics                    figures of the last report, for Prometheus\n\
    /debug/pprof/heap?pid=N     live and allocated bytes of a process, for go tool pprof\n\
    /healthz                    200 while the agent works\n\
    /readyz                     200 once everything is in place\n";

/// Answers a request. Only figures need a token: whether the agent works may be asked by everyone,
/// since probes of an orchestrator have none.
pub(super) fn answer(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    access: &Access,
    board: &Board,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        let allow = hyper::header::HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
        return response;
    }
    match uri.path() {
        "/healthz" => return health(board),
        "/readyz" => return readiness(board),
        _ => {}
    }
    if !is_admitted(headers, access) {
        let mut response = plain(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        let bearer = hyper::header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        return response;
    }
    match uri.path() {
        "/" => plain(StatusCode::OK, INDEX),
        "/metrics" => {
            let text = metrics::render(board.report(), agent(board));
            typed(StatusCode::OK, metrics::CONTENT_TYPE, text.into())
        }
        "/debug/pprof/heap" => heap(uri.query().unwrap_or_default(), board),
        _ => plain(StatusCode::NOT_FOUND, "see / for what there is\n"),
    }
}

/// The profile of one process of the last report.
fn heap(query: &str, board: &Board) -> Response<Full<Bytes>> {
    let mut parameters = query.split('&').filter_map(|it| it.split_once('='));
    let pid = parameters.find(|(name, _)| *name == "pid");
    let Some(pid) = pid.and_then(|(_, value)| value.parse::<u32>().ok()) else {
        let usage = "say which process, as in /debug/pprof/heap?pid=812; /metrics lists them\n";
        return plain(StatusCode::BAD_REQUEST, usage);
    };
    let Some(report) = board.report() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "no report yet\n");
    };
    let is_meant = |process: &&Process| process.identity.pid == pid;
    let processes: Vec<Process> = report.processes.iter().filter(is_meant).cloned().collect();
    if processes.is_empty() {
        let text = format!("process {pid} is not in the last report\n");
        return plain(StatusCode::NOT_FOUND, &text);
    }
    let alone = Report {
        processes,
        number: report.number,
        time_unix_ns: report.time_unix_ns,
        elapsed: report.elapsed,
        min_age: report.min_age,
        ..Report::default()
    };
    let profile = pprof::render(&Snapshot::of(&Host::default(), alone), None);
    typed(StatusCode::OK, "application/octet-stream", profile)
}

fn health(board: &Board) -> Response<Full<Bytes>> {
    match board.since_beat() {
        Some(since) if since > ALIVE_WITHIN => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("no sign of life for {} s\n", since.as_secs()),
        ),
        _ => plain(StatusCode::OK, "ok\n"),
    }
}

fn readiness(board: &Board) -> Response<Full<Bytes>> {
    if board.is_ready() {
        plain(StatusCode::OK, "ok\n")
    } else {
        plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "not everything is in place yet\n",
        )
    }
}

/// Whether the request shows the token. The time it takes tells nothing of the token but its length.
fn is_admitted(headers: &HeaderMap, access: &Access) -> bool {
    let Access::Token(token) = access else {
        return true;
    };
    let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| {
        let (scheme, rest) = value.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
    });
    shown.is_some_and(|shown| {
        let differing = shown.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
        shown.len() == token.len() && std::hint::black_box(differing) == 0
    })
}

fn agent(board: &Board) -> Agent {
    let own = OwnFigures::read();
    Agent {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cpu_seconds: own.cpu_seconds,
        resident_bytes: own.resident_bytes,
        open_fds: own.open_fds,
        start_time_unix_seconds: own.start_time_unix_seconds,
        lost: board.lost(),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    typed(status, PLAIN, text.to_owned().into_bytes())
}

fn typed(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    use hyper::header::HeaderValue;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::report::samples;

    fn ask(method: &Method, path: &str, token: Option<&str>, board: &Board) -> (u16, String) {
        let (status, bytes) = ask_bytes(method, path, token, board);
        (status, String::from_utf8(bytes).unwrap())
    }

    fn ask_bytes(
        method: &Method,
        path: &str,
        token: Option<&str>,
        board: &Board,
    ) -> (u16, Vec<u8>) {
        let access = Access::Token(b"0123456789abcdef".to_vec());
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.parse().unwrap());
        }
        let uri = path.parse().unwrap();
        let response = answer(method, &uri, &headers, &access, board);
        let status = response.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap();
        (status, body.to_bytes().to_vec())
    }

    /// Figures are for those who show the whole token and nothing else.
    #[test]
    fn figures_need_the_token() {
        let board = Board::default();
        let ask = |token| ask(&Method::GET, "/metrics", token, &board).0;
        assert_eq!(ask(Some("Bearer 0123456789abcdef")), 200);
        for wrong in [
            None,
            Some("Bearer "),
            Some("Bearer 0123456789abcde"),
            Some("Bearer 0123456789abcdeF"),
            Some("Bearer 0123456789abcdef0"),
            Some("Basic 0123456789abcdef"),
            Some("0123456789abcdef"),
        ] {
            assert_eq!(ask(wrong), 401, "{wrong:?}");
        }
    }

    /// Probes of an orchestrator have no token; ready is told only once it is so.
    #[test]
    fn probes_need_no_token() {
        let board = Board::default();
        assert_eq!(ask(&Method::GET, "/healthz", None, &board).0, 200);
        assert_eq!(ask(&Method::GET, "/readyz", None, &board).0, 503);
        board.set_ready();
        assert_eq!(ask(&Method::GET, "/readyz", None, &board).0, 200);
    }

    /// The last report's figures are told beside the agent's own.
    #[test]
    fn metrics_tell_of_the_last_report() {
        let board = Board::default();
        board.show(Arc::new(Report {
            number: 7,
            ..Report::default()
        }));
        let token = Some("Bearer 0123456789abcdef");
        let (_, text) = ask(&Method::GET, "/metrics", token, &board);
        assert!(text.contains("\nleaktrace_reports_total 7\n"), "{text}");
        let resident = text
            .lines()
            .find(|line| line.starts_with("process_resident"));
        let bytes: f64 = resident
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(bytes > 1e6, "{text}");
    }

    /// A process's profile is told to who may know, and what is wrong with a question is said.
    #[test]
    fn profiles_tell_of_one_process() {
        let board = Board::default();
        let token = Some("Bearer 0123456789abcdef");
        let status = |path: &str, token| ask_bytes(&Method::GET, path, token, &board).0;
        assert_eq!(status("/debug/pprof/heap?pid=4312", token), 503);
        board.show(Arc::new(samples::rich()));
        assert_eq!(status("/debug/pprof/heap?pid=4312", None), 401);
        assert_eq!(status("/debug/pprof/heap?pid=4313", token), 404);
        for wrong in [
            "",
            "?",
            "?pid",
            "?pid=",
            "?pid=-1",
            "?pid=4294967296",
            "?seconds=3",
        ] {
            let path = format!("/debug/pprof/heap{wrong}");
            assert_eq!(status(&path, token), 400, "{wrong}");
        }
        let path = "/debug/pprof/heap?seconds=1&pid=4312";
        let (status, bytes) = ask_bytes(&Method::GET, path, token, &board);
        assert_eq!(status, 200);
        let mut report = samples::rich();
        report.processes.truncate(1);
        let expected = pprof::render(&Snapshot::of(&Host::default(), report), None);
        assert_eq!(bytes, expected);
    }

    /// Nothing can be changed, and what is not there is said so.
    #[test]
    fn other_requests_are_refused() {
        let board = Board::default();
        let token = Some("Bearer 0123456789abcdef");
        assert_eq!(ask(&Method::POST, "/metrics", token, &board).0, 405);
        assert_eq!(ask(&Method::GET, "/metrics/../etc", token, &board).0, 404);
    }
}
