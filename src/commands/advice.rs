//! Owns what a person can do about a refusal, where its reason alone does not say it. It decides nothing and changes
//! nothing.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::open::{shown, words};
use crate::service::pass::describe;
use crate::tree::quote::escaped;

/// As much of another program's command line is shown.
const SHOWN: usize = 160;

/// What helps where this user may not do something to a folder.
pub fn permission(reason: &str) -> String {
    if [Errno::ACCESS, Errno::PERM].map(describe).iter().all(|denied| denied != reason) {
        return String::new();
    }
    let user = rustix::process::geteuid().as_raw();
    format!("; this is run as the user with the number {user}: run it as one that may, or with sudo")
}

/// A process and what it was started as, as far as it can be seen.
pub fn holder(pid: Option<u32>) -> String {
    let Some(pid) = pid else { return "another process".into() };
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    if text.is_empty() {
        return format!("process {pid}");
    }
    let more = if text.chars().count() > SHOWN { "..." } else { "" };
    let text: String = text.chars().take(SHOWN).collect();
    format!("process {pid} ({}{more})", escaped(&text))
}

/// Why there is no control socket, and where else it could be.
pub fn no_socket(path: &Path, error: &io::Error) -> String {
    let text = error.to_string();
    let prefix = format!("{}: ", path.display());
    let text = text.strip_prefix(&prefix).unwrap_or(&text);
    let reason = text.split_once(" (os error").map_or(text, |(words, _)| words);
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "choose another name with --name",
        io::ErrorKind::NotFound => "make its folder, or choose another place with --control",
        _ => "choose another place with --control, or set XDG_RUNTIME_DIR",
    };
    format!("no control socket at {}: {reason}; {remedy}", shown(path))
}

/// Why nothing can be watched, and which limit it is.
pub fn no_watches(error: &notify::Error) -> String {
    let limit = |name: &str| {
        let now = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
        let now: u64 = now.trim().parse().unwrap_or(0);
        let more = now.saturating_mul(2).max(1024);
        format!("fs.inotify.{name} is {now}: raise it with `sudo sysctl fs.inotify.{name}={more}`")
    };
    let notify::ErrorKind::Io(io) = &error.kind else {
        return match error.kind {
            notify::ErrorKind::MaxFilesWatch => format!("no watch is left; {}", limit("max_user_watches")),
            _ => error.to_string(),
        };
    };
    match Errno::from_io_error(io) {
        Some(Errno::MFILE) => format!(
            "{}: this user has no inotify instance left, or this process no file; {}",
            words(io),
            limit("max_user_instances")
        ),
        Some(Errno::NOSPC) => format!("no watch is left; {}", limit("max_user_watches")),
        _ => words(io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_where_permission_is_what_is_missing_and_not_elsewhere() {
        assert!(permission(&describe(Errno::ACCESS)).contains("the user with the number"));
        assert_eq!(permission(&describe(Errno::NOENT)), "");
    }

    #[test]
    fn holder_is_named_as_far_as_it_can_be_seen() {
        let own = std::process::id();
        assert!(holder(Some(own)).starts_with(&format!("process {own} (")));
        assert_eq!(holder(Some(u32::MAX)), format!("process {}", u32::MAX));
        assert_eq!(holder(None), "another process");
    }

    #[test]
    fn missing_socket_is_one_sentence_without_a_number() {
        let error = io::Error::new(io::ErrorKind::NotFound, "/a/b: No such file or directory (os error 2)");
        let text = no_socket(Path::new("/a/b"), &error);
        assert_eq!(
            text,
            "no control socket at '/a/b': No such file or directory; make its folder, or choose another place with \
             --control"
        );
    }

    #[test]
    fn limit_of_the_kernel_is_named_with_what_raises_it() {
        let error = notify::Error::io(io::Error::from_raw_os_error(Errno::MFILE.raw_os_error()));
        assert!(no_watches(&error).contains("`sudo sysctl fs.inotify.max_user_instances="));
    }
}
