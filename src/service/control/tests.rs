//! Owns the proof that the protocol holds, whatever a client or a service sends.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, unbounded};
use proptest::prelude::*;

use super::*;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

/// A dispatcher that does everything at once, except for flushes that are given no time.
fn dispatcher(requests: Receiver<Request>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut never = Vec::new();
        for request in requests {
            match request {
                Request::Flush { timeout: Some(t), reply } if t.is_zero() => never.push(reply),
                Request::Flush { reply, .. } | Request::Sweep { reply } => drop(reply.send(Reply::Done)),
                Request::Release { reply } | Request::AcceptRoots { reply } => {
                    drop(reply.send(Reply::Failed("nothing is held".into())))
                }
                Request::Status { reply } | Request::Scrub { reply, .. } => drop(reply),
            }
        }
    })
}

#[test]
fn answer_that_never_ends_is_given_up() {
    let ask = |part: &'static [u8], pause: Duration, patience: Option<Duration>| {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let endless = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            while stream.write_all(part).is_ok() {
                thread::sleep(pause);
            }
        });
        let error = ask(&path, &Command::Status, patience).expect_err("no end");
        endless.join().expect("ended with its client");
        error.kind()
    };
    let slow = ask(b"a", Duration::from_millis(1), Some(Duration::from_millis(200)));
    assert_eq!(slow, ErrorKind::TimedOut, "each byte came in time");
    assert_eq!(ask(&[b'a'; 1 << 20], Duration::ZERO, PATIENCE), ErrorKind::UnexpectedEof);
}

fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("server");
    // The server may have answered and gone before the end of it.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn commands_reach_the_dispatcher_and_its_replies_come_back() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a.sock");
    let (sender, requests) = unbounded();
    let dispatcher = dispatcher(requests);
    let server = serve(&path, sender).expect("served");

    let meta = fs::symlink_metadata(&path).expect("socket");
    assert_eq!(meta.mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1, "nothing else is left there");

    let done = ask(&path, &Command::Flush { timeout_ms: Some(9000) }, PATIENCE).expect("answer");
    assert_eq!(done, Answer { ok: true, ..Answer::default() });
    let error = |command: Command| ask(&path, &command, PATIENCE).expect("answer").error.expect("refused");
    assert_eq!(error(Command::Release { accept_root: false }), "nothing is held");
    assert_eq!(error(Command::Status), "the service is stopping");
    assert!(error(Command::Flush { timeout_ms: Some(0) }).starts_with("not everything"));

    assert_eq!(raw(&path, b"{\"command\":\"sweep\"}\n{\"command\":\"sweep\"}"), "{\"ok\":true}\n{\"ok\":true}\n");
    assert!(raw(&path, b"\xff\n").starts_with("{\"ok\":false,\"error\":\"not a request"));
    assert!(raw(&path, &[b'['; 70_000]).starts_with("{\"ok\":false,\"error\":\"the request is too long"));

    server.stop();
    assert!(!path.exists());
    dispatcher.join().expect("ended with its last sender");
}

#[test]
fn stale_socket_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a.sock");
    drop(UnixListener::bind(&path).expect("stale"));
    let (sender, _requests) = unbounded();
    let server = serve(&path, sender.clone()).expect("replaced");
    assert_eq!(serve(&path, sender.clone()).expect_err("lives").kind(), ErrorKind::AddrInUse);
    let file = folder.path().join("file");
    fs::write(&file, "mine").expect("written");
    assert_eq!(serve(&file, sender.clone()).expect_err("file").kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&file).expect("kept"), b"mine");
    fs::remove_file(&path).expect("taken away by somebody");
    server.stop();
    let long = folder.path().join("x".repeat(120)).join("a.sock");
    fs::create_dir(long.parent().expect("a folder")).expect("made");
    let server = serve(&long, sender).expect("a path longer than the kernel takes for a socket");
    connect(&long).expect("reached");
    server.stop();
}

proptest! {
    #[test]
    fn parsing_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "[\\{\"command:flushtimeout_ms,0-9\\}\\[]{0,60}",
    ) {
        let _ = parse(&bytes);
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn every_command_is_read_as_it_was_written(timeout_ms in any::<Option<u64>>(), accept_root: bool) {
        for command in [Command::Flush { timeout_ms }, Command::Status, Command::Sweep, Command::Release { accept_root }] {
            let line = serde_json::to_vec(&command).expect("plain data");
            prop_assert_eq!(parse(&line), Ok(command));
        }
    }
}
