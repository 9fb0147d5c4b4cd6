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
    report::metrics::{self, Agent},
};

/// How old the loop's last sign of life may be: it beats many times a second.
pub const ALIVE_WITHIN: Duration = Duration::from_secs(30);

const PLAIN: &str = "text/plain; charset=utf-8";

const INDEX: &str = "leaktrace\n\n\
    /metrics                    figures of the last report, for Prometheus\n\
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
        _ => plain(StatusCode::NOT_FOUND, "see / for what there is\n"),
    }
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
    use crate::report::model::Report;

    fn ask(method: &Method, path: &str, token: Option<&str>, board: &Board) -> (u16, String) {
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
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        (status, text)
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

    /// Nothing can be changed, and what is not there is said so.
    #[test]
    fn other_requests_are_refused() {
        let board = Board::default();
        let token = Some("Bearer 0123456789abcdef");
        assert_eq!(ask(&Method::POST, "/metrics", token, &board).0, 405);
        assert_eq!(ask(&Method::GET, "/metrics/../etc", token, &board).0, 404);
    }
}
