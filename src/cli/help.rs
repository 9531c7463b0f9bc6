//! Owns what stands below the options in each command's help, and in the manual page: examples, exit codes, signals. Each
//! block is a line with its title, and lines of at most 80 columns.

pub const PROGRAM: &str = "\
Examples:
  driftless sync -n ~/photos /mnt/backup/photos  show what would be done
  driftless sync ~/photos /mnt/backup/photos     make the replica identical once
  driftless watch ~/photos /mnt/backup/photos    keep it so until stopped
  driftless watch --config /etc/driftless/photos.toml
                                                 the same from a file
  driftless status                               see what the service is doing
  driftless verify ~/photos /mnt/backup/photos   compare every byte

Exit codes:
  0  done
  1  differences were found, or some items could not be copied
     (each was logged), or the service did not do what was asked
  2  unusable arguments, folders or configuration; no such service
  3  deletions are held; see 'driftless status'

'driftless help COMMAND' explains a command, 'driftless COMMAND -h' in short.";

pub const SYNC: &str = "\
Examples:
  driftless sync --dry-run ~/photos /mnt/backup/photos
  driftless sync -x '*.tmp' -x /cache/ ~/photos /mnt/backup/photos
  driftless sync --checksum --log-file sync.log ~/photos /mnt/backup/photos
  driftless sync --two-way ~/notes /mnt/laptop/notes
  driftless sync --pairs notes.pairs

A file of pairs has a folder a line, two lines a pair, and empty lines between
the pairs. Relative paths are relative to the current folder, ~ and variables
are not expanded. Both folders are worked in, as with --two-way; one that is
missing is made. The exit code is the worst of all pairs.";

pub const WATCH: &str = "\
Examples:
  driftless watch ~/photos /mnt/backup/photos
  driftless watch --interval '1h 30m' -x '*.tmp' ~/photos /mnt/backup/photos
  driftless watch --config /etc/driftless/photos.toml
  driftless watch --two-way --conflict newer ~/notes /mnt/laptop/notes
  driftless watch ~/photos 'LABEL=My disk:/photos'
  driftless watch --pairs notes.pairs

A file of pairs has a folder a line, two lines a pair, and empty lines between
the pairs; see 'driftless sync --help'. Each pair has its own process and its
own control socket.

A folder on a disk that is plugged in and pulled out can be named by its
filesystem, as 'lsblk -f' shows it, and its path there: UUID=...:/path or
LABEL=...:/path, also in a file. It is found wherever that is mounted, and
waited for while it is not.

Signals:
  TERM, INT  finish the file in hand, log the totals, exit
  HUP        read the configuration again and reopen the log
  USR1       sweep now";

pub const VERIFY: &str = "\
Examples:
  driftless verify ~/photos /mnt/backup/photos
  driftless verify --manifest photos.md5 ~/photos /mnt/backup/photos";

pub const SCRUB: &str = "\
Contents that differ from those that were recorded, in a file that nobody has
written to, have decayed. The exit code is 1 where something has decayed and
was not repaired, or could not be read.

Examples:
  driftless scrub
  driftless scrub --repair --name photos
  driftless scrub --source --rate 50MB/s ~/photos /mnt/backup/photos";

pub const STATUS: &str = "\
Examples:
  driftless status
  driftless status --follow
  driftless status --name photos --json | jq -r .state";

pub const FLUSH: &str = "\
Example:
  driftless flush --timeout 5m && tar -c -C /mnt/backup photos > photos.tar";

pub const SWEEP: &str = "\
Example:
  driftless sweep --name photos";

pub const RELEASE: &str = "\
Examples:
  driftless release
  driftless release --accept-root";

pub const HISTORY: &str = "\
Oldest first. What came to the path by a rename is followed under the names that
it had before. 'kept' is a file that can be opened, or copied back.

Examples:
  driftless history notes/todo.txt
  driftless history --since 2d ~/photos/2026
  driftless history --replica /mnt/backup/photos 2026/a.jpg";

pub const LOG: &str = "\
Oldest first. 'kept' is a file that can be opened, or copied back.

Examples:
  driftless log --removed --since 2d
  driftless log --since 'yesterday 14:00' --until 'yesterday 15:00'
  driftless log --replica /mnt/backup/photos --json | jq -r .path";

pub const RESTORE: &str = "\
Examples:
  driftless restore report.odt --at '2h ago' --to /tmp/report.odt
  driftless restore ~/docs --at 'yesterday 14:00' --dry-run
  driftless restore ~/docs --at 'yesterday 14:00'
  driftless restore . --at '2026-11-21 14:32' --replica /mnt/backup --to ~/old

Without --to it comes back in its place. What is there and equal is not touched,
what differs stays unless --force says otherwise: it is listed, and the exit
code is 1. A day alone is its first moment; a time of day is the last one that
was. With --replica the replica's disk is enough: no service, on any machine.";

pub const CHECK_CONFIG: &str = "\
It starts and changes nothing.

Example:
  driftless check-config /etc/driftless/photos.toml &&
    systemctl reload driftless@photos";

pub const SERVICE_ADD: &str = "\
Examples:
  sudo driftless service add --enable photos ~/photos /mnt/backup/photos
  driftless service add --user --enable work ~/work ~/.copies/work";

pub const SERVICE_LIST: &str = "\
Examples:
  driftless service list
  driftless service list --user --json";

pub const SERVICE_REMOVE: &str = "\
Example:
  sudo driftless service remove --disable photos";

pub const COMPLETIONS: &str = "\
Examples:
  driftless completions bash > /etc/bash_completion.d/driftless
  driftless completions zsh > /usr/local/share/zsh/site-functions/_driftless
  driftless completions fish > ~/.config/fish/completions/driftless.fish";

pub const MANPAGE: &str = "\
Examples:
  driftless manpage | man -l -
  driftless manpage > /usr/local/share/man/man1/driftless.1";

/// What the manual page has beyond the commands: a title, and a text for each term.
pub const MANUAL: [(&str, &[(&str, &str)]); 2] = [
    (
        "FILES",
        &[
            (
                "REPLICA/.driftless/",
                "Files that are being built. Neither copied nor compared; removed at a clean stop.",
            ),
            (
                "$STATE_DIRECTORY, $XDG_STATE_HOME/driftless or ~/.local/state/driftless",
                "The state folder, the first of these that is set: the log of watch, and a folder for each pair with what was \
                 last found equal, what is held, what fails, and the MD5 of contents.",
            ),
            (
                "$RUNTIME_DIRECTORY/NAME.sock, $XDG_RUNTIME_DIR/driftless/NAME.sock or /run/driftless/NAME.sock",
                "The control socket of a running watch.",
            ),
            (
                "/etc/driftless/NAME.toml, ~/.config/driftless/NAME.toml",
                "The configuration that the systemd units read.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("STATE_DIRECTORY, XDG_STATE_HOME, HOME", "Where the state folder is."),
            ("RUNTIME_DIRECTORY, XDG_RUNTIME_DIR", "Where the control socket is."),
            ("JOURNAL_STREAM", "Set by systemd: lines to the journal have a priority, and no timestamp of their own."),
            ("NO_COLOR", "If it is set and not empty, nothing is coloured."),
            ("TERM", "With dumb, or without a value, there are neither colours nor a progress bar."),
            ("COLUMNS", "The width of the help, where the terminal does not tell."),
            ("TZ", "The time zone of the log."),
        ],
    ),
];

pub const SEE_ALSO: &str = "rsync(1), inotify(7), journalctl(1), systemd.service(5), logrotate(8)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_a_terminal_of_80_columns() {
        for text in [
            PROGRAM,
            SYNC,
            WATCH,
            VERIFY,
            SCRUB,
            STATUS,
            FLUSH,
            SWEEP,
            RELEASE,
            HISTORY,
            LOG,
            RESTORE,
            CHECK_CONFIG,
            SERVICE_ADD,
            SERVICE_LIST,
            SERVICE_REMOVE,
            COMPLETIONS,
            MANPAGE,
        ] {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}
