//! Owns the commands that talk to a running service: which one is meant, and what is asked. How a status is shown is
//! `status`'s, the protocol `service::control`'s.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Target;
use crate::service::control::{Answer, Command, ask, connect, folders};
use crate::service::status::Status;
use crate::tree::quote::{escaped, quoted};

/// What is asked of the service.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    Flush(Duration),
    Sweep,
    Release,
    AcceptRoot,
}

/// How long a service may take that is asked for nothing but a word.
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const USAGE: u8 = 2;
/// What helps where a socket is another user's.
const AS_ITS_USER: &str = "run this as the service's user, or with sudo";

/// Asks the service and prints its answer. Exit code 0 when it did what was asked, 1 when it did not, 2 when there is
/// no service, or no telling which is meant.
pub fn run(target: &Target, question: Question) -> ExitCode {
    let path = match find(target, &folders()) {
        Ok(path) => path,
        Err(reason) => return fail(USAGE, &reason),
    };
    let (command, patience) = match question {
        Question::Sweep => (Command::Sweep, PATIENCE),
        Question::Release => (Command::Release { accept_root: false }, PATIENCE),
        Question::AcceptRoot => (Command::Release { accept_root: true }, PATIENCE),
        // The service keeps the time; the client waits a little longer for its answer.
        Question::Flush(timeout) => {
            let timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            (Command::Flush { timeout_ms }, timeout.saturating_add(Duration::from_secs(5)))
        }
    };
    match ask(&path, &command, Some(patience)) {
        Ok(Answer { ok: true, .. }) => ExitCode::SUCCESS,
        Ok(answer) => fail(1, &refusal(answer)),
        // Found and gone again, or never there: nobody was asked.
        Err(e) if is_absent(&e) => fail(USAGE, &unreachable(&path, &e)),
        Err(e) => fail(1, &format!("{}: {e}", shown(&path))),
    }
}

fn refusal(answer: Answer) -> String {
    answer.error.unwrap_or_else(|| "the service refused without saying why".into())
}

/// The socket of the service that is meant: the one that is given, the one of that name, or the only one that answers.
pub(super) fn find(target: &Target, folders: &[PathBuf]) -> Result<PathBuf, String> {
    if let Some(path) = &target.control {
        return Ok(path.clone());
    }
    if let Some(name) = &target.name {
        let file = format!("{name}.sock");
        let mut there = folders.iter().map(|folder| folder.join(&file)).filter(|path| path.exists());
        return there.next().ok_or_else(|| {
            format!(
                "no service named '{name}' is running (looked in {}); `driftless status` shows which run",
                list(folders)
            )
        });
    }
    let all = survey(folders);
    let of = |reach| all.iter().filter(move |(_, r)| *r == reach).map(|(path, _)| path.clone());
    let living: Vec<_> = of(Reach::Living).collect();
    // A folder that may not be read may hold any.
    let is_closed = |folder: &&PathBuf| fs::read_dir(folder).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    let closed: Vec<_> = folders.iter().filter(is_closed).cloned().chain(of(Reach::Closed)).collect();
    match (living.as_slice(), closed.as_slice()) {
        ([one], _) => Ok(one.clone()),
        ([], []) => Err(format!(
            "no service is running (looked in {}); start one with `driftless watch`, or name its socket with --control",
            list(folders)
        )),
        ([], _) => Err(format!("not permitted to reach {}; {AS_ITS_USER}", list(&closed))),
        (several, _) => Err(format!("several services are running; choose one with --name:{}", names(several))),
    }
}

/// What came of a call at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Living,
    /// It belongs to another user.
    Closed,
    /// Left behind by a process that died.
    Dead,
}

/// All sockets in these folders.
pub(super) fn survey(folders: &[PathBuf]) -> Vec<(PathBuf, Reach)> {
    let reach = |path: &Path| match connect(path) {
        Ok(_) => Some(Reach::Living),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Some(Reach::Closed),
        Err(_) => fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()).then_some(Reach::Dead),
    };
    let paths = folders.iter().flat_map(|folder| sockets(folder));
    paths.filter_map(|path| Some((path.clone(), reach(&path)?))).collect()
}

/// Asks one service for its status.
///
/// # Errors
/// The exit code, and why there is none.
pub(super) fn status(path: &Path) -> Result<Box<Status>, (u8, String)> {
    match ask(path, &Command::Status, Some(PATIENCE)) {
        Ok(Answer { ok: true, status: Some(status), .. }) => Ok(status),
        Ok(Answer { ok: true, .. }) => Err((1, "the service sent no status".into())),
        Ok(answer) => Err((1, refusal(answer))),
        Err(e) if is_absent(&e) => Err((USAGE, unreachable(path, &e))),
        Err(e) => Err((1, format!("{}: {e}", shown(path)))),
    }
}

/// What looks like a control socket in a folder, in the order of the names.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "sock")).collect();
    paths.sort();
    paths
}

fn names(paths: &[PathBuf]) -> String {
    let stems = paths.iter().filter_map(|path| path.file_stem());
    stems.map(|stem| format!("\n  {}", escaped(&stem.to_string_lossy()))).collect()
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| shown(path)).collect::<Vec<_>>().join(", ")
}

fn shown(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes())
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied)
}

fn unreachable(path: &Path, e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::PermissionDenied => {
            format!("not permitted to reach {}; {AS_ITS_USER}", shown(path))
        }
        _ => format!("no service answers at {}: it does not run, or uses another socket", shown(path)),
    }
}

pub(super) fn fail(code: u8, reason: &str) -> ExitCode {
    // What a service says is not trusted with the terminal; the list of names has lines of its own.
    let lines: Vec<String> = reason.lines().map(escaped).collect();
    let _ = writeln!(io::stderr(), "driftless: {}", lines.join("\n"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_living_service_is_found_and_several_are_listed() {
        let folder = tempfile::tempdir().expect("folder");
        let folders = [folder.path().join("nowhere"), folder.path().to_path_buf()];
        let anyone = Target::default();
        assert!(find(&anyone, &folders).expect_err("none").starts_with("no service is running"));

        drop(UnixListener::bind(folder.path().join("dead.sock")).expect("bound"));
        fs::write(folder.path().join("file.sock"), "").expect("written");
        let photos = folder.path().join("photos.sock");
        let _photos = UnixListener::bind(&photos).expect("bound");
        assert_eq!(find(&anyone, &folders), Ok(photos.clone()));

        let _music = UnixListener::bind(folder.path().join("music.sock")).expect("bound");
        assert!(find(&anyone, &folders).expect_err("two").ends_with("--name:\n  music\n  photos"));
        let named = Target { name: Some("photos".into()), ..Target::default() };
        assert_eq!(find(&named, &folders), Ok(photos));
        let named = Target { name: Some("x".into()), ..Target::default() };
        assert!(find(&named, &folders).expect_err("none").starts_with("no service named 'x'"));
        let given = Target { control: Some("/x".into()), ..Target::default() };
        assert_eq!(find(&given, &folders), Ok("/x".into()));
    }
}
