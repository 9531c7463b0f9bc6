//! Owns the question whether an output leads into systemd's journal, which has timestamps of its own and takes a line's
//! level from a prefix.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

/// Whether what is written there goes to the journal. systemd says in `JOURNAL_STREAM` which stream it reads, but only
/// of services, and only of standard error where there are two. The others are known by what they are connected to.
pub fn is_journal(output: BorrowedFd<'_>) -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok().zip(rustix::fs::fstat(output).ok());
    named.is_some_and(|(stream, stat)| stream == format!("{}:{}", stat.st_dev, stat.st_ino)) || leads_there(output)
}

fn leads_there(output: BorrowedFd<'_>) -> bool {
    let Ok(socket) = output.try_clone_to_owned().map(UnixStream::from) else { return false };
    let Ok(peer) = socket.peer_addr() else { return false };
    // Each namespace of the journal has a folder of its own: /run/systemd/journal.NAME.
    peer.as_pathname().and_then(|path| path.strip_prefix("/run/systemd").ok()).is_some_and(|path| {
        let folder = path.parent().and_then(|folder| folder.to_str()).unwrap_or_default();
        path.ends_with("stdout") && (folder == "journal" || folder.starts_with("journal."))
    })
}
