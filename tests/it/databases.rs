//! SQLite databases: what lies in the replica after a flush opens, is whole, and holds what one transaction left.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::disk;
use crate::fixture::{Pair, Running, Watch, eventually};

/// Transaction after transaction, each with one number in two tables, at the beginning of the file and at its end.
const WRITER: &str = r"
import os, sqlite3, sys, time
path, journal, synchronous, pages, pause = sys.argv[1:]
base = sqlite3.connect(path, isolation_level=None)
for pragma in ('journal_mode=' + journal, 'synchronous=' + synchronous):
    base.execute('PRAGMA ' + pragma)
# Often, so that the log is begun anew again and again.
base.execute('PRAGMA wal_autocheckpoint=' + ('30' if synchronous == 'off' else '1000'))
base.execute('CREATE TABLE one (n INTEGER)')
base.execute('CREATE TABLE bulk (id INTEGER PRIMARY KEY, n INTEGER, filling BLOB)')
base.execute('BEGIN')
base.execute('INSERT INTO one VALUES (0)')
for i in range(int(pages)):
    base.execute('INSERT INTO bulk VALUES (?, 0, ?)', (i, os.urandom(3000)))
base.execute('CREATE TABLE two (n INTEGER)')
base.execute('INSERT INTO two VALUES (0)')
base.execute('COMMIT')
open(os.path.dirname(path) + '-is-ready', 'w').close()
n = 0
while True:
    n += 1
    base.execute('BEGIN IMMEDIATE')
    base.execute('UPDATE one SET n = ?', (n,))
    base.execute('UPDATE bulk SET n = ?, filling = ? WHERE id = ?', (n, os.urandom(3000), n * 7919 % int(pages)))
    base.execute('UPDATE two SET n = ?', (n,))
    base.execute('COMMIT')
    time.sleep(float(pause))
";

const CHECK: &str = r"
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
print(base.execute('PRAGMA integrity_check').fetchone()[0])
bulk = dict(base.execute('SELECT id, n FROM bulk'))
last = base.execute('SELECT n FROM one').fetchone()[0]
for n in range(max(1, last - len(bulk) + 1), last + 1):
    if bulk[n * 7919 % len(bulk)] != n:
        sys.exit('transaction %d is missing of %d' % (n, last))
print(base.execute('SELECT (SELECT n FROM one) = (SELECT n FROM two), n FROM one').fetchone())
";

fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args(arguments);
    command
}

fn has_sqlite() -> bool {
    let found = python("import sqlite3", &[]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        disk::skipped("databases: no python3 with sqlite3 here");
    }
    found
}

/// Starts a writer, and returns when it has made its tables.
fn write(path: &Path, journal: &str, synchronous: &str, pages: &str, pause: &str) -> Running {
    let path = path.to_str().expect("a plain path");
    let writer = Running::start(python(WRITER, &[path, journal, synchronous, pages, pause]));
    let ready = format!("{}-is-ready", Path::new(path).parent().expect("a folder").display());
    eventually(Duration::from_secs(60), "the database is filled", || fs::remove_file(&ready).ok());
    writer
}

fn identity(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut all: Vec<_> = fs::read_dir(folder)
        .expect("list")
        .filter_map(|entry| {
            let entry = entry.expect("entry");
            let found = entry.metadata().ok()?;
            let name = entry.file_name().into_string().expect("a plain name");
            name.starts_with("a.db").then(|| format!("{name} {} {} {}", found.ino(), found.ctime_nsec(), found.len()))
        })
        .collect();
    all.sort();
    all
}

/// Opens a copy of what the replica holds. Gives the number of the last transaction.
#[track_caller]
fn check(pair: &Pair) -> u64 {
    let scratch = pair.top().join("scratch");
    loop {
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir(&scratch).expect("scratch folder");
        let before = identity(&pair.replica());
        let copied = before.iter().try_for_each(|line| {
            let name = line.split(' ').next().expect("a name");
            fs::copy(pair.replica().join(name), scratch.join(name)).map(drop)
        });
        // The service goes on, and may have switched to the next state meanwhile.
        if copied.is_ok() && before == identity(&pair.replica()) {
            break;
        }
    }
    let output = python(CHECK, &[scratch.join("a.db").to_str().expect("a plain path")]).output().expect("python3");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.strip_prefix("ok\n(1, ").and_then(|rest| rest.trim_end().strip_suffix(')'));
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Flushes and checks for so long; the replica must follow.
#[track_caller]
fn follow(pair: &Pair, watch: &Watch, duration: Duration) {
    let (start, mut last, mut grown) = (Instant::now(), 0, 0);
    while start.elapsed() < duration || grown == 0 {
        watch.flush();
        let now = check(pair);
        assert!(now >= last, "back from {last} to {now}");
        grown += u32::from(now > last);
        last = now;
        assert!(start.elapsed() < 10 * duration, "the replica stands still at {last}");
    }
}

fn end(mut writer: Running) {
    let stop = |child: &mut Child| child.kill().and_then(|()| child.wait());
    stop(&mut writer.0).expect("end the writer");
}

#[test]
fn database_with_a_write_ahead_log_is_whole_at_each_flush() {
    if !has_sqlite() {
        return;
    }
    let pair = Pair::new();
    let writer = write(&pair.source().join("a.db"), "wal", "off", "4000", "0");
    let watch = pair.watch(&["--debounce", "20ms", "--max-delay", "300ms"]);
    follow(&pair, &watch, Duration::from_secs(4));
    end(writer);
    watch.assert_follows();
    check(&pair);
    watch.stop();
    pair.assert_same();
}

#[test]
fn database_with_a_rollback_journal_is_whole_at_each_flush() {
    if !has_sqlite() {
        return;
    }
    for (journal, pages) in [("delete", "4000"), ("persist", "100")] {
        let pair = Pair::new();
        let writer = write(&pair.source().join("a.db"), journal, "off", pages, "0");
        let watch = pair.watch(&["--debounce", "20ms", "--max-delay", "300ms"]);
        follow(&pair, &watch, Duration::from_secs(3));
        end(writer);
        watch.assert_follows();
        check(&pair);
        watch.stop();
        pair.assert_same();
    }
}

#[test]
fn database_that_one_pass_meets_in_use_is_whole() {
    if !has_sqlite() {
        return;
    }
    for journal in ["wal", "delete"] {
        let pair = Pair::new();
        let writer = write(&pair.source().join("a.db"), journal, "normal", "500", "0.001");
        pair.try_sync(&[]);
        check(&pair);
        end(writer);
        // The shared memory's file is written through a map, which moves no time.
        pair.sync(&["--checksum"]);
        pair.assert_same();
    }
}

#[test]
fn stale_journal_goes_with_the_database_that_it_does_not_belong_to() {
    if !has_sqlite() {
        return;
    }
    let pair = Pair::new();
    let make =
        "import sqlite3,sys\nb=sqlite3.connect(sys.argv[1])\nb.execute('CREATE TABLE t AS SELECT randomblob(20000)')";
    let at = pair.source().join("a.db");
    assert!(python(make, &[at.to_str().expect("a plain path")]).status().expect("python3").success());
    pair.sync(&[]);
    for suffix in ["-wal", "-journal"] {
        disk::write(&pair.replica().join(format!("a.db{suffix}")), vec![1; 5000]);
    }
    disk::write_at(&pair.source().join("a.db"), 4096 * 3, &[0; 8]);
    // The brake would hold any removal that counts.
    let ran = pair.sync(&["--max-delete", "0"]);
    let at = |what: &str| ran.text().find(what).unwrap_or_else(|| panic!("no {what}: {}", ran.text()));
    let updated = at("File updated: ");
    assert!(at("a.db-wal") < updated && at("a.db-journal") < updated, "{}", ran.text());
    pair.assert_same();
}

#[test]
fn files_of_a_database_with_an_excluded_or_strange_one_are_files_like_others() {
    if !has_sqlite() {
        return;
    }
    let pair = Pair::new();
    let writer = write(&pair.source().join("a.db"), "wal", "normal", "50", "1000");
    let excluded = pair.sync(&["-x", "*-wal", "-x", "*-shm"]);
    assert!(!pair.replica().join("a.db-wal").exists() && pair.replica().join("a.db").exists(), "{}", excluded.text());
    end(writer);
    fs::create_dir(pair.source().join("a.db-journal")).expect("mkdir");
    disk::hard_link(&pair.source().join("a.db"), &pair.source().join("twin"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn write_ahead_log_alone_is_copied_when_the_database_did_not_change() {
    if !has_sqlite() {
        return;
    }
    let pair = Pair::new();
    let writer = write(&pair.source().join("a.db"), "wal", "normal", "20", "0.05");
    let watch = pair.watch(&[]);
    let inode = disk::inode(&pair.replica().join("a.db"));
    let first = check(&pair);
    eventually(Duration::from_secs(60), "the log follows", || {
        watch.flush();
        (check(&pair) > first).then_some(())
    });
    assert_eq!(disk::inode(&pair.replica().join("a.db")), inode, "the database itself was copied again");
    end(writer);
    watch.assert_follows();
}
