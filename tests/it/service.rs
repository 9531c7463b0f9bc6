//! `service add`, `list` and `remove` below a root of their own: what is written, what is refused, and that nothing is
//! left of what was refused. That systemd understands it is shown on a real one, by `.ci/package`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::disk;
use crate::fixture::{Pair, Ran, run};

const SYSTEM: &str = "etc/driftless";
const DROP_IN: &str = "etc/systemd/system/driftless@photos.service.d/paths.conf";
const UNIT: &str = "etc/systemd/system/driftless@.service";

/// A pair, and the root that the program takes for /.
struct Machine {
    pair: Pair,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { pair: Pair::of("file \"x\"") };
        fs::create_dir(machine.path("")).expect("root");
        machine
    }

    fn path(&self, below: &str) -> PathBuf {
        self.pair.top().join("root").join(below)
    }

    fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_else(|e| panic!("{below}: {e}"))
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, text).expect("written");
    }

    /// Everything below the pair's folder but its state, with the contents of files.
    fn everything(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let all = walkdir::WalkDir::new(self.pair.top()).into_iter().map(|entry| entry.expect("walk").into_path());
        all.map(|path| (path.clone(), fs::read(&path).ok())).collect()
    }

    fn run(&self, words: &[&str], paths: &[&Path]) -> Ran {
        let mut command = self.pair.command(&["service"]);
        command.arg(words[0]).arg("--root").arg(self.path("")).args(&words[1..]).args(paths);
        command.env("HOME", "/home/user").env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        run(command)
    }

    fn add(&self, words: &[&str], source: &Path, replica: &Path) -> Ran {
        self.run(&[&["add"], words].concat(), &[source, replica])
    }

    /// The pair's own two folders, as `photos`.
    fn add_photos(&self) {
        self.add(&["photos"], &self.pair.source(), &self.pair.replica()).expect_code(0);
    }

    fn list(&self, words: &[&str]) -> Vec<Value> {
        let ran = self.run(&[&["list", "--json"], words].concat(), &[]).expect_code(0);
        serde_json::from_str(&ran.stdout).expect("JSON")
    }

    /// One line, code 2, and nothing is other than before.
    #[track_caller]
    fn refused(&self, act: impl FnOnce() -> Ran) -> String {
        let before = self.everything();
        let ran = act().expect_code(2);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert_eq!(self.everything(), before, "something was changed");
        ran.stderr
    }
}

/// The replica, or the point of its mount where that is below another folder of the system's.
fn writable(replica: &Path) -> PathBuf {
    let stat = Command::new("stat").args(["-c", "%m"]).arg(replica).output().expect("stat").stdout;
    let point = PathBuf::from(String::from_utf8(stat).expect("text").trim_end());
    if point.components().count() > 2 { point } else { replica.into() }
}

/// The lines that say something.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn a_service_is_added_with_its_configuration_its_drop_in_and_the_unit() {
    let machine = Machine::new();
    let (source, replica) = (machine.pair.source(), machine.pair.replica());
    let ran = machine.add(&["photos"], &source, &replica).expect_code(0);
    for path in ["etc/driftless/photos.toml", UNIT, DROP_IN] {
        assert!(ran.stdout.contains(&format!("Wrote '{}'", machine.path(path).display())), "{}", ran.stdout);
        assert_eq!(fs::metadata(machine.path(path)).expect("there").permissions().mode() & 0o777, 0o644 & !umask());
    }
    assert!(ran.stdout.contains(&format!("Made the folder '{}'", replica.display())), "{}", ran.stdout);
    assert_eq!(fs::metadata(&replica).expect("made").permissions().mode() & 0o777, 0o700);

    let configuration = machine.read("etc/driftless/photos.toml");
    let set = [
        format!("source = \"{}\"", source.display()),
        format!("replica = \"{}\"", replica.display()),
        "name = \"photos\"".into(),
    ];
    assert_eq!(lines(&configuration), set);
    assert!(configuration.contains("\n#interval = \"10m\"\n"), "the other keys are explained");
    assert!(lines(&machine.read(DROP_IN)).contains(&&*format!("ReadWritePaths=-{}", writable(&replica).display())));
    let program = format!("ExecStart={} watch", env!("CARGO_BIN_EXE_driftless"));
    assert!(machine.read(UNIT).contains(&program), "the unit runs this program");

    let listed = machine.list(&[]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["source"], source.to_str().expect("text"));
    assert_eq!((&listed[0]["name"], &listed[0]["problem"]), (&"photos".into(), &Value::Null));
    let table = machine.run(&["list"], &[]).expect_code(0).stdout;
    assert!(table.contains(&format!("'{}' -> '{}'", source.display(), replica.display())), "{table}");
}

fn umask() -> u32 {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("file"), "").expect("written");
    !fs::metadata(folder.path().join("file")).expect("there").permissions().mode() & 0o022
}

#[test]
fn whatever_the_folders_are_called_the_files_name_them() {
    let names =
        [("a b", "a b"), ("100%", "100%%"), ("\"q\"", "\\\"q\\\""), ("it's", "it's"), ("back\\slash", "back\\\\slash")];
    let more = [("#1;", "#1;"), ("a$HOME", "a$HOME"), ("ä漢", "ä漢"), (" - ", " - "), ("[x]*?", "[x]*?")];
    for (name, written) in names.into_iter().chain(more) {
        let machine = Machine::new();
        let (source, replica) = (machine.pair.top().join(name), machine.pair.top().join(format!("{name} copy")));
        fs::create_dir(&source).expect("source");
        machine.add(&["photos"], &source, &replica).expect_code(0);
        let listed = &machine.list(&[])[0];
        assert_eq!((listed["source"].as_str(), listed["replica"].as_str()), (source.to_str(), replica.to_str()));
        if writable(&replica) == replica {
            let line = format!("ReadWritePaths=\"-{}/{written} copy\"", machine.pair.top().display());
            assert!(lines(&machine.read(DROP_IN)).contains(&&*line), "{}", machine.read(DROP_IN));
        }
        machine.run(&["remove", "photos"], &[]).expect_code(0);
    }
}

#[test]
fn what_watch_would_refuse_and_what_no_unit_can_hold_is_refused() {
    let machine = Machine::new();
    let (top, source) = (machine.pair.top(), machine.pair.source());
    let odd = |bytes: &[u8]| {
        let path = top.join(OsStr::from_bytes(bytes));
        fs::create_dir(&path).expect("folder");
        path
    };
    let (not_text, two_lines, variable) = (odd(b"not\xffutf8"), odd(b"two\nlines"), odd(b"$HOME"));
    let table = [
        (top.join("nowhere"), top.join("r"), "No such file or directory"),
        (source.join("file"), top.join("r"), "it is not a folder"),
        (source.clone(), source.join("deeper"), "lies inside the source"),
        (source.clone(), source.clone(), "are the same folder"),
        (not_text, top.join("r"), "not\\xffutf8' is not UTF-8"),
        (source.clone(), variable.join("r"), "$HOME/r' has a part that looks like a variable"),
        (source.clone(), two_lines.join("r"), "two\\nlines/r' has a line break"),
        (source.clone(), machine.path("etc/driftless/r"), "where driftless keeps its own files"),
        (source.clone(), machine.path("var/lib/driftless"), "where driftless keeps its own files"),
    ];
    for (source, replica, reason) in table {
        let said = machine.refused(|| machine.add(&["photos"], &source, &replica));
        assert!(said.contains(reason), "{said}");
    }
    for name in ["a/b", "../x", ".hidden", "-x", "a b", ""] {
        machine.refused(|| machine.add(&["--", name], &source, &top.join("r")));
    }
}

#[test]
fn nothing_is_overwritten_unless_it_is_forced() {
    let machine = Machine::new();
    machine.add_photos();
    let (source, other) = (machine.pair.source(), machine.pair.top().join("other"));
    let said = machine.refused(|| machine.add(&["photos"], &source, &other));
    assert!(said.contains("photos.toml' is there already; --force overwrites it"), "{said}");
    // The drop-in alone is reason enough.
    fs::remove_file(machine.path("etc/driftless/photos.toml")).expect("removed");
    let said = machine.refused(|| machine.add(&["photos"], &source, &other));
    assert!(said.contains("paths.conf' is there already"), "{said}");
    machine.add(&["photos", "--force"], &source, &other).expect_code(0);
    assert_eq!(machine.list(&[])[0]["replica"].as_str(), other.to_str());
    assert!(machine.read(DROP_IN).contains(writable(&other).to_str().expect("text")));
}

#[test]
fn what_fails_in_the_middle_leaves_nothing() {
    let machine = Machine::new();
    // A file is where a folder would have to be.
    machine.write("etc/systemd", "");
    let said = machine.refused(|| machine.add(&["photos"], &machine.pair.source(), &machine.pair.replica()));
    assert!(said.contains("cannot write '"), "{said}");
    assert!(!disk::exists(&machine.pair.replica()));
}

#[test]
fn folders_of_another_service_are_refused() {
    let machine = Machine::new();
    machine.add_photos();
    let (source, replica, top) = (machine.pair.source(), machine.pair.replica(), machine.pair.top());
    let other = top.join("other");
    fs::create_dir(&other).expect("folder");
    let table = [
        (&other, replica.clone(), "is the replica of another service"),
        (&other, replica.join("deeper"), "are in one another"),
        (&replica, source.clone(), "the other way round"),
    ];
    for (source, replica, reason) in table {
        let said = machine.refused(|| machine.add(&["more"], source, &replica));
        assert!(said.contains(reason) && said.contains("photos.toml"), "{said}");
    }
    machine.write("etc/driftless/x.toml", "source = '/nowhere/a'\nreplica = '/nowhere/b'\nname = 'more'\n");
    let said = machine.refused(|| machine.add(&["more"], &other, &top.join("r")));
    assert!(said.contains("another service's control socket"), "{said}");
    // A chain, and a second replica of the same source, are what they look like.
    machine.add(&["chain"], &replica, &top.join("r1")).expect_code(0);
    machine.add(&["second"], &source, &top.join("r2")).expect_code(0);
}

#[test]
fn a_disk_that_should_be_mounted_and_is_not_is_refused() {
    let machine = Machine::new();
    let point = machine.pair.top().join("mnt");
    fs::create_dir(&point).expect("mount point");
    machine.write("etc/fstab", &format!("# disks\n/dev/sda1 / ext4\n/dev/sdb1 {} ext4 nofail 0 2\n", point.display()));
    let said = machine.refused(|| machine.add(&["photos"], &machine.pair.source(), &point.join("photos")));
    assert!(said.contains("mnt', which is not mounted: mount it first"), "{said}");
    machine.refused(|| machine.add(&["photos"], &point, &machine.pair.replica()));
    machine.add_photos();
}

#[test]
fn a_unit_that_is_installed_is_used() {
    for (unit, program) in [("ExecStart=/usr/bin/driftless watch --config %E\n", true), ("ExecStart=@ watch\n", false)]
    {
        let machine = Machine::new();
        let unit = unit.replace('@', env!("CARGO_BIN_EXE_driftless"));
        machine.write("usr/lib/systemd/system/driftless@.service", &format!("[Service]\nPrivateTmp=yes\n{unit}"));
        machine.add_photos();
        assert!(!machine.path(UNIT).exists());
        let drop_in = machine.read(DROP_IN);
        let command = format!("ExecStart={} watch --config %E", env!("CARGO_BIN_EXE_driftless"));
        assert_eq!(lines(&drop_in).contains(&&*command), program, "{drop_in}");
        let is_in_tmp = machine.pair.top().starts_with("/tmp") || machine.pair.top().starts_with("/var/tmp");
        assert_eq!(lines(&drop_in).contains(&"PrivateTmp=no"), is_in_tmp, "{drop_in}");
    }
}

#[test]
fn a_users_service_has_a_drop_in_only_where_it_needs_one() {
    let folder = "home/user/.config/systemd/user/driftless@photos.service.d";
    for (sandbox, needs_one) in [("", false), ("ProtectSystem=strict\n", true), ("ProtectSystem=no\n", false)] {
        let machine = Machine::new();
        let unit = format!("[Service]\nExecStart={} watch\n{sandbox}", env!("CARGO_BIN_EXE_driftless"));
        machine.write("usr/lib/systemd/user/driftless@.service", &unit);
        let words = ["photos", "--user"];
        machine.add(&words, &machine.pair.source(), &machine.pair.replica()).expect_code(0);
        assert_eq!(machine.path(folder).exists(), needs_one, "{sandbox}");
        assert!(machine.path("home/user/.config/driftless/photos.toml").exists());
        assert!(!machine.path(SYSTEM).exists());
        assert_eq!((machine.list(&["--user"]).len(), machine.list(&[]).len()), (1, 0));
        // A replica of the system's is none of a user's.
        let said = machine.refused(|| machine.add(&["x", "--user"], &machine.pair.source(), &machine.pair.replica()));
        assert!(said.contains("is the replica of another service"), "{said}");
        fs::create_dir_all(machine.path("home/user/.local/state/driftless/photos")).expect("state");
        let said = machine.run(&["remove", "photos", "--user"], &[]).expect_code(0).stdout;
        assert!(said.contains("/home/user/.local/state/driftless/photos'"), "{said}");
        assert!(!machine.path(folder).exists() && machine.list(&["--user"]).is_empty());
    }
    let machine = Machine::new();
    machine.add(&["photos", "--user"], &machine.pair.source(), &machine.pair.replica()).expect_code(0);
    assert!(
        machine.read("home/user/.config/systemd/user/driftless@.service").contains(env!("CARGO_BIN_EXE_driftless"))
    );
}

#[test]
fn a_service_is_removed_and_its_replica_stays() {
    let machine = Machine::new();
    machine.add_photos();
    machine.pair.sync(&[]);
    machine.add(&["second"], &machine.pair.source(), &machine.pair.top().join("r2")).expect_code(0);
    machine.write("etc/systemd/system/driftless@photos.service.d/override.conf", "[Service]\n");
    let ran = machine.run(&["remove", "photos"], &[]).expect_code(0);
    assert!(
        ran.stdout.contains(&format!("The replica '{}' stays", machine.pair.replica().display())),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("Not removed, for it has drop-ins of others"), "{}", ran.stdout);
    assert!(!machine.path(DROP_IN).exists() && !machine.path("etc/driftless/photos.toml").exists());
    assert!(machine.path(UNIT).exists(), "the other service needs it");
    assert!(disk::exists(&machine.pair.replica().join("file")));
    machine.run(&["remove", "second"], &[]).expect_code(0);
    assert!(!machine.path(UNIT).exists() && machine.list(&[]).is_empty());
    let said = machine.refused(|| machine.run(&["remove", "second"], &[]));
    assert!(said.contains("there is no service second"), "{said}");
}

#[test]
fn a_configuration_that_was_changed_by_hand_is_removed_only_if_it_is_forced() {
    for changed in ["interval = '1h'\n", "nonsense\n"] {
        let machine = Machine::new();
        machine.add_photos();
        let path = "etc/driftless/photos.toml";
        machine.write(path, &(machine.read(path) + changed));
        let said = machine.refused(|| machine.run(&["remove", "photos"], &[]));
        assert!(said.contains("is not as `service add` wrote it; --force"), "{said}");
        machine.run(&["remove", "photos", "--force"], &[]).expect_code(0);
        assert!(!machine.path(path).exists() && !machine.path(DROP_IN).exists());
    }
}

#[test]
fn the_list_tells_what_is_wrong_with_a_file() {
    let machine = Machine::new();
    let none = machine.run(&["list"], &[]).expect_code(0).stdout;
    assert!(none.starts_with("No services are configured in '"), "{none}");
    machine.add_photos();
    machine.write("etc/driftless/bad.toml", "source = '/a'\nreplika = '/b'\n");
    machine.write("etc/driftless/no name.toml", "");
    machine.write("etc/driftless/photos.toml.save", "not one");
    let listed = machine.list(&[]);
    let names: Vec<_> = listed.iter().map(|service| service["name"].as_str().expect("text")).collect();
    assert_eq!(names, ["bad", "no name", "photos"]);
    assert!(listed[0]["problem"].as_str().is_some_and(|text| text.contains("line 2: unknown key `replika`")));
    assert_eq!((&listed[0]["source"], &listed[2]["problem"]), (&Value::Null, &Value::Null));
    let table = machine.run(&["list"], &[]).expect_code(0).stdout;
    assert!(table.lines().any(|line| line.starts_with("Problem: ") && line.contains("bad.toml', line 2")), "{table}");
}

#[test]
fn pipe_among_the_configurations_keeps_nobody_waiting() {
    let machine = Machine::new();
    machine.add_photos();
    let pipe = machine.path("etc/driftless/pipe.toml");
    disk::make_fifo(&pipe);
    let list = machine.list(&[]);
    assert_eq!(list.len(), 2);
    assert!(list[1]["problem"].as_str().is_some_and(|problem| problem.contains("is no regular file")), "{list:?}");
    let more = machine.pair.top().join("more");
    machine.add(&["more"], &machine.pair.source(), &more).expect_code(0);
    machine.run(&["remove", "--force", "pipe"], &[]).expect_code(0);
    assert!(!disk::exists(&pipe));
}
