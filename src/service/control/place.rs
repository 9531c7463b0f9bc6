//! Owns where control sockets are kept, and how one comes to its place: unreachable for others from the first moment,
//! and never over one that answers. It speaks no protocol.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How long a call waits for its turn where many wait already.
const QUEUED: Duration = Duration::from_secs(5);
/// What the kernel allows for a socket's path, without the final zero byte.
const LONGEST_PATH: usize = 107;

/// Where a service of this name keeps its socket. The folder is made, for its owner alone, where it is missing.
pub fn default_socket(name: &str) -> PathBuf {
    let folder = folders().into_iter().next().unwrap_or_else(|| SYSTEM_FOLDER.into());
    // A folder that cannot be made is reported by `serve`, with the path.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    folder.join(format!("{name}.sock"))
}

/// The folders in which sockets are looked for, the one for new sockets first.
pub fn folders() -> Vec<PathBuf> {
    folders_from(env::var_os("RUNTIME_DIRECTORY"), env::var_os("XDG_RUNTIME_DIR"))
}

const SYSTEM_FOLDER: &str = "/run/driftless";

fn folders_from(runtime: Option<OsString>, xdg: Option<OsString>) -> Vec<PathBuf> {
    // systemd separates several runtime directories with colons; the first one is ours.
    let runtime = runtime.and_then(|all| env::split_paths(&all).next());
    let xdg = xdg.map(PathBuf::from).filter(|p| p.is_absolute()).map(|p| p.join("driftless"));
    let mut folders: Vec<PathBuf> = runtime.filter(|p| p.is_absolute()).into_iter().chain(xdg).collect();
    folders.push(SYSTEM_FOLDER.into());
    folders.dedup();
    folders
}

/// Makes the socket where nobody else can reach it, and moves it to its place when its mode is right.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    refuse_if_taken(path)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let private = parent.join(format!(".{:x}", std::process::id()));
    let staged = private.join("s");
    // A process of the same number may have died here.
    let _ = fs::remove_file(&staged);
    let _ = fs::remove_dir(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let listener = reach(&staged, |short| UnixListener::bind(short)).and_then(|listener| {
        fs::set_permissions(&staged, Permissions::from_mode(0o600))?;
        // RACE: two services that start with the same name in the same instant can both find a stale socket; the
        // later one then has the name. They cannot have the same replica, so each still does its own work.
        fs::rename(&staged, path)?;
        Ok(listener)
    });
    let _ = fs::remove_file(&staged);
    let _ = fs::remove_dir(&private);
    listener
}

/// Connects to the socket at `path`, however long the path is.
///
/// # Errors
/// As of connect(2), and of opening the socket's folder; `TimedOut` where a service takes no calls.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    reach(path, |short| {
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(QUEUED))?;
        match net::connect(&socket, &SocketAddrUnix::new(short)?) {
            Err(Errno::AGAIN) => {
                Err(io::Error::new(ErrorKind::TimedOut, "the service does not take calls: it hangs, or was stopped"))
            }
            done => done.map(|()| socket.into()).map_err(io::Error::from),
        }
    })
}

/// Calls with a path that the kernel takes for a socket: one that is too long leads through its folder's descriptor.
fn reach<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    if path.as_os_str().as_bytes().len() <= LONGEST_PATH {
        return call(path);
    }
    let folder = fs::File::open(folder)?;
    call(&Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

fn refuse_if_taken(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !meta.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "is there and is not a socket"));
    }
    match connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another service answers there")),
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_kept_in_the_first_folder_that_is_given() {
        let folders = |a: &str, b: &str| folders_from(Some(a.into()), Some(b.into()));
        assert_eq!(
            folders("/run/a:/run/b", "/run/user/1")[..2],
            [PathBuf::from("/run/a"), "/run/user/1/driftless".into()]
        );
        assert_eq!(folders("", "relative"), [PathBuf::from("/run/driftless")]);
        assert_eq!(folders("/run/driftless", ""), [PathBuf::from("/run/driftless")]);
    }

    #[test]
    fn service_that_takes_no_calls_is_given_up() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.sock");
        let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddrUnix::new(&path).expect("an address")).expect("bound");
        net::listen(&socket, 0).expect("listening");
        let _waiting = connect(&path).expect("the one that may wait");
        assert_eq!(connect(&path).expect_err("one too many").kind(), ErrorKind::TimedOut);
    }
}
