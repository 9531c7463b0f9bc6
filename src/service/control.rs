//! Owns the control socket: its protocol, the thread that serves it, and where sockets are kept. It does not carry out
//! what it is asked: each command becomes a [`Request`] for the dispatcher, which answers when it is done.
//!
//! # The protocol
//! A Unix stream socket, mode 0600. One JSON object a line each way; a connection may carry several, one after another.
//!
//! | request | answer |
//! | --- | --- |
//! | `{"command":"flush","timeout_ms":60000}` (the time may be left out) | `{"ok":true}` once all that was written before the request is in the replica |
//! | `{"command":"status"}` | `{"ok":true,"status":{…}}`, see [`Status`] |
//! | `{"command":"sweep"}` | `{"ok":true}` once a sweep is due |
//! | `{"command":"release"}` | `{"ok":true}` once the held deletions may happen |
//! | `{"command":"release","accept_root":true}` | `{"ok":true}` once the folders are taken as they are now |
//! | `{"command":"scrub","source":false,"repair":false,"rate":20000000}` (all may be left out; bytes a second) | `{"ok":true,"scrub":{…}}` once it has ended, see [`Report`] |
//!
//! Whatever cannot be done or understood is answered with `{"ok":false,"error":"…"}`. A request longer than 64 KiB, or
//! a connection that is silent for 30 seconds between requests, ends the connection.

mod place;

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::scrub::{Ask, Report};
use super::status::Status;

pub use place::{connect, default_socket, folders};

/// What a client asks for, as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    Flush {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    Status,
    Sweep,
    Release {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accept_root: bool,
    },
    Scrub(Ask),
}

/// What the service says to it, as it is on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub: Option<Box<Report>>,
}

/// What a client asks of the dispatcher. A reply that nobody waits for any more may be sent all the same.
#[derive(Debug)]
pub enum Request {
    /// The client is told by itself when the time is over: the dispatcher need not watch the clock.
    Flush {
        timeout: Option<Duration>,
        reply: Sender<Reply>,
    },
    Status {
        reply: Sender<Reply>,
    },
    Sweep {
        reply: Sender<Reply>,
    },
    Release {
        reply: Sender<Reply>,
    },
    /// A person says that the folders that are there are meant.
    AcceptRoots {
        reply: Sender<Reply>,
    },
    /// Read the files and hold them against what is known of their contents.
    Scrub {
        ask: Ask,
        reply: Sender<Reply>,
    },
}

/// What the dispatcher says to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Done,
    Status(Box<Status>),
    Scrubbed(Box<Report>),
    Failed(String),
}

/// The running server. Dropping it leaves the socket; [`ControlServer::stop`] takes it away.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    identity: (u64, u64),
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Longest request, with its newline.
const LONGEST_LINE: u64 = 64 * 1024;
/// As much of an answer is read as a status can be by far, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;
const MOST_CONNECTIONS: usize = 32;
const SILENCE: Duration = Duration::from_secs(30);

/// Listens at `path` and hands what is asked to `requests`. A socket that a dead process left behind is replaced.
///
/// # Errors
/// `AddrInUse` where a living process answers there, `AlreadyExists` where something else than a socket is, and
/// whatever the system says to making one.
pub fn serve(path: &Path, requests: Sender<Request>) -> io::Result<ControlServer> {
    let listener = place::listen(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let meta = fs::symlink_metadata(path)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let (accepting, stop) = (listener.try_clone()?, Arc::clone(&stopping));
    let thread = thread::Builder::new().name("control".into()).spawn(move || accept(&accepting, &requests, &stop))?;
    Ok(ControlServer { path: path.into(), identity: (meta.dev(), meta.ino()), listener, stopping, thread })
}

impl ControlServer {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts nobody any more and removes the socket, unless another one has taken its place.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
        // A listening socket that is shut down wakes its accept, and needs no path for that.
        let _ = UnixStream::from(OwnedFd::from(self.listener)).shutdown(Shutdown::Both);
        let _ = self.thread.join();
    }
}

/// Asks the service at `path` and waits for the answer, `patience` at most.
///
/// # Errors
/// Nobody answers there, the connection ended, or what came is no answer.
pub fn ask(path: &Path, command: &Command, patience: Option<Duration>) -> io::Result<Answer> {
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    let mut stream = connect(path)?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let line = answer(&mut stream, deadline).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "the service did not answer in time"),
        _ => e,
    })?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the service ended the connection"));
    }
    serde_json::from_slice(&line).map_err(|e| io::Error::new(ErrorKind::InvalidData, format!("not an answer: {e}")))
}

/// Reads a line, or as much as there is, whoever sends it and however slowly.
fn answer(stream: &mut UnixStream, deadline: Option<Instant>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = vec![0; 64 * 1024];
    while line.last() != Some(&b'\n') && line.len() < LONGEST_ANSWER {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            if left.is_zero() && !line.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => line.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(line)
}

/// What one line of a client asks for.
///
/// # Errors
/// What is wrong with it, in words for the client.
pub fn parse(line: &[u8]) -> Result<Command, String> {
    serde_json::from_slice(line).map_err(|e| format!("not a request: {e}"))
}

fn accept(listener: &UnixListener, requests: &Sender<Request>, stopping: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((mut stream, _)) = accepted else {
            // Most likely no descriptor is free: a pause instead of a spin.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
            let _ = stream.set_nonblocking(true);
            let _ = send(&mut stream, Reply::Failed("too many connections at once".into()));
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (requests, counted) = (requests.clone(), Arc::clone(&open));
        let started = thread::Builder::new().name("control client".into()).spawn(move || {
            // An error here is the client's end of the connection: there is nobody to tell.
            let _ = converse(stream, &requests);
            counted.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn converse(mut stream: UnixStream, requests: &Sender<Request>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_LINE {
            return send(&mut stream, Reply::Failed("the request is too long".into()));
        }
        let reply = parse(&line).map_or_else(Reply::Failed, |command| perform(command, requests));
        send(&mut stream, reply)?;
    }
}

/// Hands a command to the dispatcher and waits until it is done.
fn perform(command: Command, requests: &Sender<Request>) -> Reply {
    let (reply, answer) = bounded(1);
    let mut patience = None;
    let request = match command {
        Command::Flush { timeout_ms } => {
            patience = timeout_ms.map(Duration::from_millis);
            Request::Flush { timeout: patience, reply }
        }
        Command::Status => Request::Status { reply },
        Command::Sweep => Request::Sweep { reply },
        Command::Release { accept_root: false } => Request::Release { reply },
        Command::Release { accept_root: true } => Request::AcceptRoots { reply },
        Command::Scrub(ask) => Request::Scrub { ask, reply },
    };
    let stopping = || Reply::Failed("the service is stopping".into());
    if requests.send(request).is_err() {
        return stopping();
    }
    match patience {
        None => answer.recv().unwrap_or_else(|_| stopping()),
        Some(limit) => match answer.recv_timeout(limit) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Disconnected) => stopping(),
            Err(RecvTimeoutError::Timeout) => {
                let limit = humantime::format_duration(limit);
                Reply::Failed(format!("not everything was in the replica after {limit}"))
            }
        },
    }
}

fn send(stream: &mut UnixStream, reply: Reply) -> io::Result<()> {
    let answer = match reply {
        Reply::Done => Answer { ok: true, ..Answer::default() },
        Reply::Status(status) => Answer { ok: true, status: Some(status), ..Answer::default() },
        Reply::Scrubbed(report) => Answer { ok: true, scrub: Some(report), ..Answer::default() },
        Reply::Failed(error) => Answer { error: Some(error), ..Answer::default() },
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests;
