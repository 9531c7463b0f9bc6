//! What the service tells a service manager, by the protocol of sd_notify(3): a socket of the test's own is the manager.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::Signal;

use crate::disk;
use crate::fixture::{Pair, Watch, eventually, wrapped};
use crate::fuse::Mounted;

/// Nothing takes longer on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Manager {
    socket: UnixDatagram,
    /// All that has come, in order.
    pub heard: Vec<String>,
}

impl Manager {
    pub fn of(pair: &Pair) -> Self {
        let socket = UnixDatagram::bind(pair.runtime().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        Self { socket, heard: Vec::new() }
    }

    /// The service, started as by a manager that wants a sign of life at least so often, if at all.
    pub fn start<'a>(&self, pair: &'a Pair, watchdog: Option<Duration>, args: &[&str]) -> Watch<'a> {
        pair.launch(self.command(pair, watchdog, args))
    }

    fn command(&self, pair: &Pair, watchdog: Option<Duration>, args: &[&str]) -> Command {
        let mut command = pair.watch_command(args);
        command.env("NOTIFY_SOCKET", pair.runtime().join("notify"));
        command.env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC");
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        command
    }

    /// Takes what has come.
    pub fn take(&mut self) {
        let mut buffer = [0; 8192];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }

    /// Waits for a message, after the first `from`, in which `line` begins a line. Gives its place.
    #[track_caller]
    pub fn wait_for(&mut self, from: usize, line: &str) -> usize {
        let start = Instant::now();
        loop {
            self.take();
            let is_it = |message: &String| message.lines().any(|l| l.starts_with(line));
            if let Some(at) = self.heard.iter().skip(from).position(is_it) {
                return from + at;
            }
            assert!(start.elapsed() < PATIENCE, "never said {line}: {:#?}", self.heard);
        }
    }

    fn count(&self, from: usize, line: &str) -> usize {
        self.heard.iter().skip(from).filter(|message| message.lines().any(|l| l.starts_with(line))).count()
    }
}

fn folders(pair: &Pair, number: usize) {
    for i in 0..number {
        disk::write(&pair.source().join(format!("folder-{}/deeper-{i}/file", i % 10)), i.to_string());
    }
}

#[test]
fn ready_comes_when_the_watches_are_in_place_though_the_first_pass_still_copies() {
    let pair = Pair::new();
    folders(&pair, 100);
    // Of the first folder in the list; the others are not looked at before it is copied, with one thread.
    disk::write_solid(&pair.source().join("huge"), 700 << 20, 1);
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, None, &["--jobs", "1"]);
    let ready = manager.wait_for(0, "READY=1");
    assert!(manager.heard[ready].contains("111 folders watched"), "{:?}", manager.heard[ready]);
    assert_eq!(manager.count(0, "WATCHDOG=1"), 0, "nobody asked for it");
    // What is done now is followed, whether or not the pass has come there.
    disk::write(&pair.source().join("folder-9/deeper-99/new"), "n");
    fs::rename(pair.source().join("folder-8"), pair.source().join("renamed")).expect("renamed");
    watch.wait_for_answer();
    watch.assert_follows();
    manager.wait_for(ready, "STATUS=in sync, 111 folders watched");
    assert_eq!(manager.count(0, "READY=1"), 1);
    let from = manager.heard.len();
    watch.stop();
    manager.wait_for(from, "STOPPING=1");
}

#[test]
fn status_tells_how_far_the_first_pass_is_and_of_how_many_entries_where_that_is_known() {
    let pair = Pair::new();
    folders(&pair, 20);
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, None, &[]);
    manager.wait_for(0, "STATUS=in sync, 31 folders watched");
    watch.stop();
    let from = manager.heard.len();
    let watch = manager.start(&pair, None, &[]);
    manager.wait_for(from, "STATUS=in sync, 31 folders watched");
    let first = manager.wait_for(from, "STATUS=first pass: ");
    assert!(
        manager.heard[first].contains(" of about 50 entries looked at, 0 files copied (0 B)"),
        "{:?}",
        manager.heard
    );
    watch.stop();
}

#[test]
fn idle_service_sends_nothing_but_the_signs_of_life_that_were_asked_for() {
    let pair = Pair::new();
    folders(&pair, 5);
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, None, &[]);
    manager.wait_for(0, "STATUS=in sync");
    watch.flush();
    manager.take();
    let from = manager.heard.len();
    thread::sleep(Duration::from_secs(3));
    manager.take();
    assert_eq!(manager.heard[from..], [""; 0], "in 3 s with nothing to do");
    // One saved file is no news either.
    disk::write(&pair.source().join("saved"), "s");
    watch.assert_follows();
    manager.take();
    assert_eq!(manager.count(from, "READY"), 0);
    watch.stop();

    let watch = manager.start(&pair, Some(Duration::from_secs(1)), &[]);
    manager.wait_for(from, "STATUS=in sync");
    manager.take();
    let (from, start) = (manager.heard.len(), Instant::now());
    thread::sleep(Duration::from_secs(3));
    manager.take();
    let fed = manager.count(from, "WATCHDOG=1");
    let most = start.elapsed().as_secs() as usize * 2 + 2;
    assert!((3..=most).contains(&fed), "two a second were asked for: {:?}", &manager.heard[from..]);
    assert_eq!(manager.heard.len() - from, fed, "{:?}", &manager.heard[from..]);
    watch.stop();
}

#[test]
fn reload_is_announced_with_the_time_and_ends_with_ready() {
    let pair = Pair::of("a \"x\"");
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, None, &[]);
    manager.wait_for(0, "STATUS=in sync");
    let from = manager.heard.len();
    watch.signal(Signal::HUP);
    let reloading = manager.wait_for(from, "RELOADING=1");
    assert!(manager.heard[reloading].contains("\nMONOTONIC_USEC="), "in one message: {:?}", manager.heard[reloading]);
    let ready = manager.wait_for(from, "READY=1");
    assert!(reloading < ready && manager.heard[ready].contains("STATUS=in sync"), "{:?}", &manager.heard[from..]);
    watch.stop();
}

#[test]
fn service_that_holds_from_the_start_is_ready_at_once_and_says_why() {
    let pair = Pair::of("a \"x\"");
    pair.sync(&[]);
    fs::rename(pair.source(), pair.top().join("away")).expect("renamed");
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, None, &[]);
    let ready = manager.wait_for(0, "READY=1");
    let status = &manager.heard[ready];
    assert!(status.contains("STATUS=held: the source folder") && status.contains("goes on by itself"), "{status}");
    fs::rename(pair.top().join("away"), pair.source()).expect("renamed");
    manager.wait_for(ready, "STATUS=in sync");
    watch.assert_follows();
    watch.stop();
}

#[test]
fn held_removals_are_told_with_their_remedy() {
    let pair = Pair::new();
    for i in 0..200 {
        disk::write(&pair.source().join(format!("folder/{i}")), i.to_string());
    }
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, None, &[]);
    let synced = manager.wait_for(0, "STATUS=in sync");
    disk::remove(&pair.source().join("folder"));
    let held = manager.wait_for(synced, "STATUS=held: more removals than --max-delete allows at once.");
    assert!(manager.heard[held].contains("driftless release"), "{}", manager.heard[held]);
    watch.stop();
}

#[test]
fn folders_beyond_the_limit_on_watches_do_not_keep_it_from_being_ready() {
    let pair = Pair::new();
    folders(&pair, 60);
    let mut manager = Manager::of(&pair);
    let script = "echo 30 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    let namespace = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"];
    if !Command::new(namespace[0]).args(&namespace[1..]).arg("true").output().is_ok_and(|o| o.status.success()) {
        return disk::skipped("a limit on watches: no user namespace here");
    }
    let watch = pair.launch(wrapped(&namespace, &manager.command(&pair, None, &[])));
    manager.wait_for(0, "READY=1");
    manager.wait_for(0, "STATUS=degraded: some folders have no watch; 29 folders watched, 42 not");
    watch.assert_follows();
    watch.stop();
}

#[test]
fn no_sign_of_life_is_given_while_a_pass_hangs_and_the_log_says_so_once() {
    let pair = Pair::of("a \"x\"");
    disk::write_solid(&pair.source().join("huge"), 60 << 20, 1);
    let Some(mounted) = Mounted::replica_of(&pair, &["--write-rate=10M"]) else { return };
    let mut manager = Manager::of(&pair);
    let watch = manager.start(&pair, Some(Duration::from_secs(4)), &[]);
    manager.wait_for(0, "READY=1");
    eventually(PATIENCE, "some of it is written", || (watch.io("wchar") > 4 << 20).then_some(()));
    let hanging = mounted.hang();
    let hung = manager.heard.len();
    let told = manager.wait_for(hung, "STATUS=degraded: a pass has not moved since ");
    assert_eq!(watch.status()["state"], "degraded");
    thread::sleep(Duration::from_secs(5));
    manager.take();
    assert_eq!(manager.count(told, "WATCHDOG=1"), 0, "{:?}", &manager.heard[told..]);
    assert_eq!(watch.log().matches("A pass has not moved since").count(), 1);
    drop(hanging);
    manager.wait_for(told, "WATCHDOG=1");
    manager.wait_for(told, "STATUS=in sync");
    watch.flush();
    assert!(watch.log().contains("The pass moves again"));
    watch.stop();
}

#[test]
fn manager_that_does_not_read_stops_neither_the_work_nor_the_end() {
    let pair = Pair::of("a \"x\"");
    let manager = Manager::of(&pair);
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.connect(pair.runtime().join("notify")).expect("connected");
    filler.set_nonblocking(true).expect("set");
    while filler.send(b"STATUS=full").is_ok() {}
    let watch = manager.start(&pair, Some(Duration::from_secs(1)), &[]);
    watch.wait_for_answer();
    disk::write(&pair.source().join("new"), "n");
    watch.assert_follows();
    watch.stop();
}
