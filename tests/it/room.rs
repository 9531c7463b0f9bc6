//! Room on the replica's disk: what is kept makes way for what is copied, if a person lets it.

use std::fs;
use std::process::Command;

use crate::disk;
use crate::fixture::{Pair, Ran, run, wrapped};
use crate::thinning::{DAY, Past};

/// One pass into a replica of 8 MiB that keeps 5 versions of 1 MiB each; then what is there. Nothing where no such place can
/// be made.
fn sync_into(pair: &Pair, args: &[&str]) -> Option<Ran> {
    let mut past = Past::of(pair, 9 * DAY);
    (1..6).rev().for_each(|age| past.update(age * DAY, "kept", 1 << 20));
    let made = pair.top().join("made");
    fs::rename(pair.replica(), &made).expect("renamed");
    fs::create_dir(pair.replica()).expect("made");
    let script = format!(
        "mount -t tmpfs -o size=8m tmpfs '{0}' && cp -a '{1}/.' '{0}' || exit 99; \"$@\"; code=$?; cd '{0}'; \
         find . -type f; exit $code",
        pair.replica().display(),
        made.display()
    );
    let namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let possible = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        disk::skipped("a replica on a disk of its own: no user namespace here");
        return None;
    }
    Some(run(wrapped(&namespace, &pair.on_both("sync", &[&["-j", "1", "--keep", "30d"], args].concat()))))
}

fn versions(ran: &Ran) -> usize {
    ran.stdout.lines().filter(|line| line.starts_with("./.driftless/versions/")).count()
}

#[test]
fn the_oldest_versions_make_way_for_a_copy() {
    let pair = Pair::new();
    disk::write_solid(&pair.source().join("large"), 4 << 20, 1);
    let Some(ran) = sync_into(&pair, &["--keep-free", "0"]) else { return };
    let ran = ran.expect_code(0);
    assert!(ran.stdout.contains("\n./large\n"), "{}", ran.text());
    assert!(ran.text().contains("No longer kept: "), "{}", ran.text());
    assert!((1..=4).contains(&versions(&ran)), "{}", ran.text());
}

#[test]
fn nothing_that_is_kept_goes_unasked_or_in_vain() {
    let table: [(u64, &[&str]); 2] = [(4 << 20, &[]), (12 << 20, &["--keep-free", "0"])];
    for (size, args) in table {
        let pair = Pair::new();
        disk::write_solid(&pair.source().join("large"), size, 1);
        let Some(ran) = sync_into(&pair, args) else { return };
        let ran = ran.expect_code(1);
        assert!(versions(&ran) == 5 && ran.text().contains("no room"), "{}", ran.text());
    }
}

#[test]
fn so_much_stays_free_as_is_asked_for() {
    let pair = Pair::of("a \"x\"");
    let Some(ran) = sync_into(&pair, &["--keep-free", "60%"]) else { return };
    let ran = ran.expect_code(0);
    assert!((2..=3).contains(&versions(&ran)), "{}", ran.text());
}
