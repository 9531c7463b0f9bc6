//! The figures for monitoring: in a file, and over HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, eventually, run};

const PATIENCE: Duration = Duration::from_secs(60);

/// A port that nobody has at the moment.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The value of a sample, by the beginning of its line.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(sample)).unwrap_or_else(|| panic!("no {sample} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no value: {line}"))
}

#[test]
fn scraper_is_answered_with_what_the_service_does() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    let address = free_port();
    let watch = pair.watch(&["--name", "photos", "--metrics-listen", &address.to_string()]);
    disk::write(&pair.source().join("b/new"), "12345");
    watch.flush();
    watch.wait_for_state("in_sync");
    let answer = ask(address, GET);
    let (head, text) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", text.len())), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    for (sample, expected) in [
        ("driftless_up{name=\"photos\"}", 1.0),
        ("driftless_state{name=\"photos\",state=\"in_sync\"}", 1.0),
        ("driftless_pending_paths{", 0.0),
        ("driftless_watched_folders{", 2.0),
        ("driftless_sweeps_total{", 1.0),
        ("driftless_operations_total{name=\"photos\",operation=\"copied\"}", 3.0),
        ("driftless_copied_bytes_total{", 7.0),
    ] {
        assert_eq!(value(text, sample), expected, "{sample}");
    }
    assert!(value(text, "driftless_event_to_replica_seconds_count{") >= 1.0, "{text}");
    assert!(value(text, "driftless_last_sweep_end_time_seconds{") > 1.7e9, "{text}");
    assert!(ask(address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
}

#[test]
fn clients_that_hang_keep_nobody_waiting_and_stop_nothing() {
    let pair = Pair::of("a \"x\"");
    let address = free_port();
    let watch = pair.watch(&["--metrics-listen", &address.to_string()]);
    let mut silent: Vec<_> = (0..4).map(|_| TcpStream::connect(address).expect("connect")).collect();
    silent[0].write_all(b"GET /met").expect("half a request");
    silent[1].write_all(&[0xff; 100]).expect("garbage");
    assert!(ask(address, GET).starts_with("HTTP/1.1 200 OK\r\n"));
    // Nor does one that asks for much.
    silent[2].write_all(&vec![b'x'; 8 * 1024]).expect("a long line");
    silent[2].shutdown(Shutdown::Write).expect("said all");
    let mut answer = String::new();
    let _ = silent[2].read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    watch.assert_follows();
    watch.stop();
}

#[test]
fn address_in_use_is_refused_in_one_sentence() {
    let pair = Pair::of("a \"x\"");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let ran = run(pair.watch_command(&["--metrics-listen", &address])).expect_code(2);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("cannot listen at {address}: Address already in use")), "{}", ran.stderr);
}

#[test]
fn file_has_the_figures_while_the_service_runs_and_after_it() {
    let pair = Pair::of("a \"x\"");
    let folder = pair.top().join("textfile");
    fs::create_dir(&folder).expect("folder");
    let path = folder.join("photos.prom");
    let watch = pair.watch(&["--name", "photos", "--metrics", &path.display().to_string()]);
    let text = eventually(PATIENCE, "the file", || fs::read_to_string(&path).ok());
    assert_eq!(value(&text, "driftless_up{name=\"photos\"}"), 1.0);
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o644);
    disk::write(&pair.source().join("b"), "12345");
    watch.flush();
    watch.stop();
    let text = fs::read_to_string(&path).expect("it stays");
    assert_eq!(value(&text, "driftless_up{name=\"photos\"}"), 0.0);
    assert_eq!(value(&text, "driftless_operations_total{name=\"photos\",operation=\"copied\"}"), 2.0);
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert_eq!(fs::read_dir(&folder).expect("list").count(), 1, "nothing else is left there");
}

#[test]
fn file_that_cannot_be_had_is_refused() {
    let pair = Pair::of("a \"x\"");
    for (path, reason) in [
        (pair.source().join("a.prom"), "lies inside the source"),
        (pair.top().join("nowhere/a.prom"), "No such file or directory"),
        (pair.top().to_path_buf(), "is a directory"),
    ] {
        let ran = run(pair.watch_command(&["--metrics", &path.display().to_string()])).expect_code(2);
        assert!(ran.stderr.contains("the metrics file") && ran.stderr.contains(reason), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}
