//! Owns the small HTTP server for scrapers: it answers `GET /metrics` and nothing else, and no client can hold it up. What
//! it answers with is the parent's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Figures;

/// Longest request, with all its headers.
const LONGEST: usize = 8 * 1024;
const MOST_CONNECTIONS: usize = 16;
/// What one connection may take from its beginning to its end.
const TIME: Duration = Duration::from_secs(10);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Takes the address.
///
/// # Errors
/// As of bind(2): it is taken, or none of this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// Answers until the process ends.
///
/// # Errors
/// When there is no thread to be had.
pub fn serve(listener: TcpListener, figures: Figures) -> io::Result<()> {
    let accepting = move || accept(&listener, &figures);
    thread::Builder::new().name("metrics".into()).spawn(accepting).map(drop)
}

fn accept(listener: &TcpListener, figures: &Figures) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            // Most likely no descriptor is free: a pause instead of a spin.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write_all(&response("503 Service Unavailable", PLAIN, "too many connections\n", true));
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (figures, counted) = (figures.clone(), Arc::clone(&open));
        let started = thread::Builder::new().name("metrics client".into()).spawn(move || {
            // An error here is the client's end of the connection: there is nobody to tell.
            let _ = converse(stream, Instant::now() + TIME, || figures.now());
            counted.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn converse(mut stream: TcpStream, deadline: Instant, figures: impl FnOnce() -> Option<String>) -> io::Result<()> {
    let request = read(&mut stream, deadline)?;
    let answer = answer(&request, figures);
    let mut rest = answer.as_slice();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(rest) {
            Ok(0) => return Ok(()),
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is left of the time; an error when nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads up to the empty line after the headers, or as much as is allowed.
fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !is_whole(&request) && request.len() < LONGEST {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => request.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(request)
}

fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n") || request.windows(2).any(|end| end == b"\n\n")
}

fn answer(request: &[u8], figures: impl FnOnce() -> Option<String>) -> Vec<u8> {
    if !is_whole(request) {
        let status = if request.len() >= LONGEST { "431 Request Header Fields Too Large" } else { "400 Bad Request" };
        return response(status, PLAIN, "this is not a request that is understood here\n", true);
    }
    let line = request.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else {
        return response("400 Bad Request", PLAIN, "this is not a request that is understood here\n", true);
    };
    if !version.starts_with(b"HTTP/1.") {
        return response("505 HTTP Version Not Supported", PLAIN, "only HTTP/1 is spoken here\n", true);
    }
    let with_body = *method != b"HEAD";
    if !matches!(*method, b"GET" | b"HEAD") {
        return response("405 Method Not Allowed\r\nAllow: GET, HEAD", PLAIN, "only GET is answered here\n", true);
    }
    if target.split(|byte| *byte == b'?').next() != Some(b"/metrics") {
        return response("404 Not Found", PLAIN, "the figures are at /metrics\n", with_body);
    }
    match figures() {
        Some(text) => response("200 OK", OPENMETRICS, &text, with_body),
        None => response("503 Service Unavailable", PLAIN, "the service does not answer, or is stopping\n", with_body),
    }
}

fn response(status: &str, kind: &str, body: &str, with_body: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if with_body { body } else { "" };
    (head + body).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first_line(request: &str) -> String {
        let answer = String::from_utf8(answer(request.as_bytes(), || Some("figures\n".into()))).expect("text");
        answer.lines().next().expect("a line").to_string()
    }

    #[test]
    fn only_a_get_of_the_metrics_is_answered_with_them() {
        let table = [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
            ("GET /metrics?x=y HTTP/1.0\n\n", "200 OK"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metrics/../x HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics HTTP/2\r\n\r\n", "505 HTTP Version Not Supported"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("GET /metrics HTTP/1.1\r\n", "400 Bad Request"),
            ("", "400 Bad Request"),
        ];
        for (request, status) in table {
            assert_eq!(first_line(request), format!("HTTP/1.1 {status}"), "{request:?}");
        }
        assert_eq!(first_line(&"x".repeat(LONGEST)), "HTTP/1.1 431 Request Header Fields Too Large");
        let head = String::from_utf8(answer(b"HEAD /metrics HTTP/1.1\r\n\r\n", || Some("figures\n".into())));
        assert!(head.expect("text").ends_with("Content-Length: 8\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn client_that_says_nothing_is_left_when_its_time_is_over() {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("listening");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (stream, _) = listener.accept().expect("accepted");
        let ended = converse(stream, Instant::now() + Duration::from_millis(20), || None);
        assert!(matches!(ended.expect_err("over").kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock));
        drop(client);
    }

    proptest! {
        #[test]
        fn answering_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[GET /metrics\\r\\nHP.1]{0,40}") {
            for request in [bytes.as_slice(), text.as_bytes(), &[text.as_bytes(), b"\r\n\r\n"].concat()] {
                let answer = answer(request, || None);
                prop_assert!(answer.starts_with(b"HTTP/1.1 "));
            }
        }
    }
}
