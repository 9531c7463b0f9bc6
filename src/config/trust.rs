//! Owns the question who can write a configuration file: whoever can decides what the service copies and removes, with
//! the rights that it has. It refuses nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::shown;

/// What a person should know about the file, if anything.
pub fn untrusted(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let me = rustix::process::geteuid().as_raw();
    let who = who((file.uid(), file.gid(), file.mode()), me)?;
    let rights = if me == 0 { "root's rights" } else { "the rights of this user" };
    Some(format!(
        "The configuration file {} can be written by {who}, who decides by it what is copied and removed with {rights}",
        shown(path)
    ))
}

/// Who else can write it.
fn who((owner, group, mode): (u32, u32, u32), me: u32) -> Option<String> {
    if mode & 0o002 != 0 {
        Some("everybody".into())
    } else if owner != 0 && owner != me {
        Some(format!("user {owner}"))
    // An ordinary user's group is usually his own.
    } else if mode & 0o020 != 0 && me == 0 && group != 0 {
        Some(format!("group {group}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_others_can_write_are_doubted() {
        let table = [
            ((0, 0, 0o644), 0, None),
            ((0, 0, 0o664), 0, None),
            ((0, 5, 0o664), 0, Some("group 5")),
            ((0, 5, 0o644), 0, None),
            ((7, 0, 0o600), 0, Some("user 7")),
            ((0, 0, 0o666), 0, Some("everybody")),
            ((7, 7, 0o664), 7, None),
            ((0, 0, 0o644), 7, None),
            ((8, 8, 0o644), 7, Some("user 8")),
            ((7, 7, 0o602), 7, Some("everybody")),
        ];
        for (file, me, expected) in table {
            assert_eq!(who(file, me).as_deref(), expected, "{file:?} {me}");
        }
    }
}
