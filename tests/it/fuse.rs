//! A replica on a filesystem that can be made to hang: bindfs, whose server is stopped. No mount and no server outlives its
//! test, also where that fails.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::disk;
use crate::fixture::{Pair, eventually};

/// A mounted replica.
pub struct Mounted {
    server: Child,
    point: PathBuf,
}

/// As long as this is there, whoever asks that filesystem waits. It has to go before a service that waits does.
pub struct Hanging<'a>(&'a Mounted);

impl Mounted {
    /// The replica of a pair, with the options given; `None`, said aloud, where there is no such filesystem.
    pub fn replica_of(pair: &Pair, options: &[&str]) -> Option<Self> {
        let has_bindfs = Command::new("bindfs").arg("--version").output().is_ok();
        if !disk::is_root() || !has_bindfs || !fs::exists("/dev/fuse").unwrap_or(false) {
            disk::skipped("a replica that hangs: it needs root and bindfs");
            return None;
        }
        let (behind, point) = (pair.top().join("behind"), pair.replica());
        fs::create_dir_all(&behind).expect("made");
        fs::create_dir_all(&point).expect("made");
        let mut command = Command::new("bindfs");
        command.arg("-f").args(options).arg(&behind).arg(&point);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mounted = Self { server: command.spawn().expect("start bindfs"), point };
        eventually(Duration::from_secs(60), "the mount", || mounted.is_there().then_some(()));
        Some(mounted)
    }

    /// Stops the server.
    pub fn hang(&self) -> Hanging<'_> {
        self.signal(Signal::STOP);
        Hanging(self)
    }

    fn is_there(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        device(&self.point) != self.point.parent().and_then(device)
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.server), signal);
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Without its server the filesystem fails, and keeps nobody waiting.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.point).stderr(Stdio::null()).status();
    }
}
