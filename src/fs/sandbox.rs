//! Owns the second wall around the threads that touch the roots: Landlock, where the kernel has it. A thread that has
//! restricted itself, and every thread that it starts, can open nothing outside the roots for reading, writing or
//! changing, whatever name it is led to. It does not decide which threads; what was open before stays usable.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};

use super::root::Root;

/// The newest rights that are asked for; an older kernel holds those that it knows.
const NEWEST: ABI = ABI::V7;

/// What holds for the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// All rights that the program knows of.
    Whole(i32),
    /// Those that this kernel knows.
    Part(i32),
    /// The kernel has none, or refuses it; why.
    None(String),
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wall::Whole(version) => write!(f, "Landlock holds (version {version})"),
            Wall::Part(version) => write!(f, "Landlock holds as far as this kernel has it (version {version})"),
            Wall::None(reason) => write!(f, "Landlock is not to be had: {reason}"),
        }
    }
}

/// Restricts this thread for good: it reads below `read`, and below `write` it may do all that keeping a replica needs.
/// Attributes are not Landlock's; they are set through open descriptors alone.
///
/// Where it cannot be had in full, the thread goes on with what there is.
pub fn confine(read: &[&Root], write: &[&Root]) -> Wall {
    match restrict(read, write) {
        Ok(wall) => wall,
        Err(error) => Wall::None(error.to_string()),
    }
}

fn restrict(read: &[&Root], write: &[&Root]) -> Result<Wall, landlock::RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    // Programs are not run, nor devices spoken to, in a replica either.
    let unneeded = AccessFs::Execute | AccessFs::IoctlDev;
    let writing = AccessFs::from_all(NEWEST) & !unneeded;
    let mut ruleset = Ruleset::default()
        // The first version forbids all renames between folders: better no wall than that one.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .create()?;
    for (roots, rights) in [(read, reading), (write, writing)] {
        for root in roots.iter().filter(|root| !root.is_missing()) {
            ruleset = ruleset.add_rule(PathBeneath::new(root.fd(), rights))?;
        }
    }
    // Messages name the limit on watches.
    if let Ok(limits) = PathFd::new("/proc/sys/fs/inotify") {
        ruleset = ruleset.add_rule(PathBeneath::new(limits, reading))?;
    }
    let status = ruleset.restrict_self()?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        _ => 0,
    };
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Wall::Whole(version),
        RulesetStatus::PartiallyEnforced => Wall::Part(version),
        RulesetStatus::NotEnforced => Wall::None("the kernel does not enforce it".into()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat};

    use super::*;

    /// Does the work in a thread that is confined to `source` and `replica` below `top`; says so where it cannot be.
    fn confined(top: &std::path::Path, work: impl FnOnce(&Root, &Root) + Send) {
        for name in ["source", "replica/a", "replica/b", "outside"] {
            fs::create_dir_all(top.join(name)).expect("made");
        }
        for name in ["source/file", "replica/a/file", "outside/file"] {
            fs::write(top.join(name), "contents").expect("written");
        }
        let source = Root::open(&top.join("source")).expect("a root");
        let replica = Root::open(&top.join("replica")).expect("a root");
        let confined = || match confine(&[&source], &[&replica]) {
            Wall::None(reason) => eprintln!("skipped: no Landlock here: {reason}"),
            _ => work(&source, &replica),
        };
        std::thread::scope(|scope| scope.spawn(confined).join()).expect("the work");
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn a_confined_thread_and_those_that_it_starts_open_nothing_outside() {
        let top = tempfile::tempdir().expect("a folder");
        let top = top.path();
        confined(top, |_, _| {
            let opens = || {
                assert!(refused(File::open(top.join("outside/file"))));
                assert!(refused(fs::read_dir(top.join("outside"))));
                assert!(refused(File::create(top.join("outside/new"))));
                assert!(refused(fs::remove_file(top.join("outside/file"))));
                assert!(refused(fs::rename(top.join("outside/file"), top.join("replica/stolen"))));
                assert!(refused(fs::read_dir("/etc")));
            };
            opens();
            assert!(crate::fs::count::watch_limit().is_some(), "messages name the limit");
            std::thread::spawn({
                let top = top.to_path_buf();
                move || assert!(refused(File::open(top.join("outside/file"))))
            })
            .join()
            .expect("the thread's own thread");
        });
        assert_eq!(fs::read(top.join("outside/file")).expect("read"), b"contents");
        assert!(File::open(top.join("outside/file")).is_ok(), "this thread is as free as before");
    }

    #[test]
    fn a_confined_thread_reads_the_source_and_does_all_in_the_replica() {
        let top = tempfile::tempdir().expect("a folder");
        let top = top.path();
        confined(top, |source, replica| {
            assert_eq!(fs::read(source.path().join("file")).expect("read"), b"contents");
            assert!(refused(File::create(source.path().join("new"))));
            assert!(refused(fs::remove_file(source.path().join("file"))));
            assert!(refused(fs::OpenOptions::new().write(true).open(source.path().join("file"))));
            let (a, b) = (replica.path().join("a"), replica.path().join("b"));
            fs::rename(a.join("file"), b.join("moved")).expect("renamed across folders");
            fs::hard_link(b.join("moved"), a.join("linked")).expect("linked across folders");
            fs::create_dir(b.join("folder")).expect("made");
            renameat(CWD, b.join("folder"), CWD, a.join("folder")).expect("a folder renamed across folders");
            std::os::unix::fs::symlink("nowhere", a.join("link")).expect("linked");
            rustix::fs::mkfifoat(CWD, a.join("pipe"), Mode::from_raw_mode(0o600)).expect("a FIFO");
            fs::OpenOptions::new().write(true).truncate(true).open(a.join("linked")).expect("truncated");
            fs::remove_file(a.join("pipe")).expect("removed");
            fs::remove_dir(a.join("folder")).expect("removed");
            // The way of a new file: without a name until it is published.
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            if let Ok(file) = openat(CWD, &a, flags, Mode::from_raw_mode(0o600)) {
                let mut file = File::from(file);
                file.write_all(b"new").expect("written");
                let by_proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                linkat(CWD, &by_proc, CWD, b.join("published"), AtFlags::SYMLINK_FOLLOW).expect("published");
            }
        });
    }

    #[test]
    fn what_is_beneath_a_root_that_does_not_exist_is_nothing() {
        let top = tempfile::tempdir().expect("a folder");
        let missing = Root::missing(&top.path().join("missing")).expect("a root");
        std::thread::spawn(move || match confine(&[&missing], &[]) {
            Wall::None(reason) => eprintln!("skipped: no Landlock here: {reason}"),
            _ => assert!(refused(fs::read_dir("/"))),
        })
        .join()
        .expect("the thread");
    }
}
