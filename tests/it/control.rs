//! The socket and its clients: `flush`, `status`, `sweep`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use crate::disk;
use crate::fixture::{Pair, Running, eventually};

#[test]
fn status_has_the_documented_fields() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let status = watch.status();
    let fields = [
        "state",
        "reason",
        "since",
        "pid",
        "source",
        "replica",
        "pending",
        "lag_ms",
        "watches",
        "totals",
        "last_sweep",
        "next_sweep_in_s",
        "holds",
        "failing",
        "uncertain",
    ];
    for field in fields {
        assert!(status.get(field).is_some(), "no {field}: {status}");
    }
    assert_eq!(status["pid"], watch.pid());
    for (field, path) in [("source", pair.source()), ("replica", pair.replica())] {
        let path = path.canonicalize().expect("path").display().to_string();
        assert!(status[field].as_str().is_some_and(|shown| shown.contains(&path)), "{field}: {status}");
    }
    assert_eq!((&status["pending"], &status["lag_ms"]), (&0.into(), &0.into()), "{status}");
    assert_eq!(status["watches"]["folders"], 2, "{status}");
    assert_eq!(status["watches"]["unwatched"], 0, "{status}");
    assert!(status["watches"]["limit"].as_u64().is_some_and(|limit| limit > 0), "{status}");
    let totals = [
        "files_copied",
        "files_updated",
        "bytes",
        "removed",
        "renamed",
        "metadata",
        "directories_created",
        "links",
        "other",
        "problems",
    ];
    for field in totals {
        assert!(status["totals"][field].is_u64(), "no totals.{field}: {status}");
        assert!(status["last_sweep"]["totals"][field].is_u64(), "no last_sweep.totals.{field}: {status}");
    }
    assert_eq!(status["totals"]["files_copied"], 2, "{status}");
    assert_eq!(status["totals"]["bytes"], 2, "{status}");
    assert!(status["last_sweep"]["finished"].is_string() || status["last_sweep"]["finished"].is_number(), "{status}");
    assert!(status["last_sweep"]["duration_ms"].is_number(), "{status}");
    assert!(status["next_sweep_in_s"].as_f64().is_some_and(|left| left > 500.0 && left <= 600.0), "{status}");
    for field in ["holds", "failing", "uncertain"] {
        assert_eq!(status[field].as_array().map(Vec::len), Some(0), "{status}");
    }
}

#[test]
fn totals_count_what_was_done() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    let watch = pair.watch(&[]);
    let before = watch.status()["totals"].clone();
    disk::append(&pair.source().join("a"), b"12345");
    watch.flush();
    disk::chmod(&pair.source().join("a"), 0o600);
    watch.flush();
    fs::rename(pair.source().join("a"), pair.source().join("z")).expect("rename");
    watch.flush();
    disk::remove(&pair.source().join("b/c"));
    fs::create_dir(pair.source().join("new")).expect("mkdir");
    disk::hard_link(&pair.source().join("z"), &pair.source().join("new/link"));
    disk::write(&pair.source().join("new/file"), "123");
    watch.flush();
    let totals = watch.status()["totals"].clone();
    let more = |field: &str| totals[field].as_u64().zip(before[field].as_u64()).map(|(after, before)| after - before);
    for (field, expected) in [
        ("files_copied", 1),
        ("files_updated", 1),
        ("bytes", 6 + 3),
        ("renamed", 1),
        ("removed", 1),
        ("directories_created", 1),
        ("links", 1),
        ("problems", 0),
    ] {
        assert_eq!(more(field), Some(expected), "{field}: {totals}");
    }
    assert!(more("metadata").is_some_and(|count| count >= 1), "{totals}");
}

#[test]
fn status_for_people_tells_the_state() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let ran = watch.client("status", &[]).expect_code(0);
    assert!(ran.stdout.to_lowercase().replace('_', " ").contains("in sync"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&watch.pid().to_string()), "{}", ran.stdout);
}

#[test]
fn socket_is_for_its_owner_alone() {
    let pair = Pair::of("a \"x\"");
    let _watch = pair.watch(&[]);
    let socket = disk::stat(&pair.control());
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o777, 0o600);
}

#[test]
fn clients_find_the_service_in_the_runtime_folder() {
    let pair = Pair::of("a \"x\"");
    let _watch = Running::start(pair.on_both("watch", &[]));
    eventually(Duration::from_secs(60), "the service answers", || {
        (pair.run(&["flush", "--timeout", "60s"]).code == Some(0)).then_some(())
    });
    let sockets: Vec<_> = fs::read_dir(pair.runtime().join("driftless")).expect("list").flatten().collect();
    assert!(sockets.iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".sock")), "{sockets:?}");
    crate::compare::assert_same_live(&pair.source(), &pair.replica());
}

#[test]
fn flush_of_a_quiet_service_is_quick() {
    let pair = Pair::of("a \"x\"");
    // No flush waits for a debounce.
    let watch = pair.watch(&["--debounce", "1m", "--max-delay", "2m"]);
    watch.wait_for_state("in_sync");
    let start = Instant::now();
    for _ in 0..5 {
        watch.flush();
    }
    assert!(start.elapsed() < Duration::from_secs(30), "five flushes took {:?}", start.elapsed());
    // The cookie, or whatever proves it, is seen nowhere.
    watch.assert_follows();
    assert!(!watch.log().contains("cookie"), "{}", watch.log());
}

#[test]
fn flush_tells_of_many_clients_at_once() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (pair, watch) = (&pair, &watch);
            scope.spawn(move || {
                let name = format!("by-{i}/file");
                disk::write(&pair.source().join(&name), i.to_string());
                watch.flush();
                assert_eq!(fs::read_to_string(pair.replica().join(&name)).expect("after the flush"), i.to_string());
            });
        }
    });
    watch.assert_follows();
}

#[test]
fn garbage_on_the_socket_harms_nobody() {
    use std::io::{Read, Write};
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    for garbage in [&b"\n"[..], b"{}\n", b"not json\n", b"{\"command\":\"dance\"}\n", b"[[[[[[[[[\n", &[0xff; 100_000]]
    {
        let mut socket = std::os::unix::net::UnixStream::connect(pair.control()).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        // It may hang up on us before all is said.
        let _ = socket.write_all(garbage);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read(&mut [0; 1024]);
    }
    // One who connects and says nothing keeps nobody else waiting.
    let _silent = std::os::unix::net::UnixStream::connect(pair.control()).expect("connect");
    disk::write(&pair.source().join("b"), "y");
    watch.assert_follows();
}

#[test]
fn failing_path_is_listed_and_mended() {
    if disk::is_root() {
        return disk::skipped("an unreadable file: root reads all");
    }
    let pair = Pair::of("a \"x\"\n shut \"y\" mode=000");
    let watch = pair.start_watch(&[]);
    watch.wait_for_answer();
    let failing = eventually(Duration::from_secs(60), "the path is listed as failing", || {
        let status = watch.status();
        status["failing"].as_array().and_then(|list| list.first().cloned())
    });
    assert!(failing["path"].as_str().is_some_and(|path| path.contains("shut")), "{failing}");
    assert!(
        failing["reason"].is_string() && failing["tries"].is_u64() && !failing["next_try_in_s"].is_null(),
        "{failing}"
    );
    disk::chmod(&pair.source().join("shut"), 0o600);
    watch.assert_follows();
    eventually(Duration::from_secs(60), "nothing fails any more", || {
        watch.status()["failing"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn socket_in_one_of_the_folders_is_left_alone() {
    for side in [Pair::source, Pair::replica] {
        let pair = Pair::of("a \"x\"");
        pair.sync(&[]);
        let socket = side(&pair).join("own.sock");
        let mut command = pair.on_both("watch", &["--control"]);
        command.arg(&socket).arg("--log-file").arg(pair.log_file());
        let running = Running::start(command);
        let flush = || pair.run(&["flush", "--control", socket.to_str().expect("text")]);
        eventually(Duration::from_secs(60), "an answer", || (flush().code == Some(0)).then_some(()));
        assert_eq!(disk::exists(&pair.replica().join("own.sock")), socket.starts_with(pair.replica()));
        assert!(flush().code == Some(0), "the sweep has removed it");
        drop(running);
    }
}
