//! Owns the proof that what was heard comes out as doubt, in its lane and in its time.

use super::*;

const LONG: Duration = Duration::from_secs(600);

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("a valid path")
}

fn intake(kind: Kind, debounce: Duration, max_delay: Duration) -> Arc<Intake> {
    let id = InodeId { dev: 0, ino: 1 };
    Intake::new(debounce, max_delay, Arc::new(move |_| Some(Found { kind, is_linked: false, id })))
}

/// Takes the news of a time when all that was taken before is dealt with.
fn take(intake: &Intake, now: Moment) -> News {
    intake.take(now, None, |_| false)
}

#[test]
fn a_finished_file_goes_at_once_and_the_second_time_it_waits() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Made(path("a")));
    assert!(take(&intake, clock::now()).express.is_empty(), "it is still being written");
    intake.hear(Heard::Written(path("a")));
    assert!(take(&intake, clock::now()).express.dirty.covers(&path("a")));
    intake.hear(Heard::Written(path("a")));
    let news = take(&intake, clock::now());
    assert!(news.express.is_empty() && news.bulk.is_empty());
    assert_eq!(intake.waiting().0, 1);
}

#[test]
fn removals_wait_and_a_cookie_brings_all_that_waits() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Removed(path("a")));
    intake.hear(Heard::Modified(path("b")));
    assert!(take(&intake, clock::now()).bulk.is_empty());
    intake.hear(Heard::Cookie("1".into()));
    let news = take(&intake, clock::now());
    assert!(news.bulk.dirty.covers(&path("a")) && news.bulk.dirty.covers(&path("b")));
    assert_eq!(news.cookies.len(), 1);
    assert_eq!(intake.waiting().0, 0);
}

#[test]
fn what_went_with_its_folder_waits_as_the_folder() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Modified(path("a/written")));
    for name in ["a/b/1", "a/b/2", "a/b", "a/written", "a/c", "ab", "a"] {
        intake.hear(Heard::Removed(path(name)));
    }
    assert_eq!(intake.waiting().0, 3, "the folder, what was written to before, and another one");
    let since = intake.waiting().1.expect("since when");
    let news = take(&intake, later(since, LONG));
    assert_eq!(news.bulk.oldest, Some(since), "the age of the first counts");
    assert!(["a", "a/written", "ab"].iter().all(|name| news.bulk.dirty.covers(&path(name))));
    assert!(news.bulk.dirty.covers(&path("a/b/1")));
    assert_eq!(intake.waiting(), (0, None));
}

#[test]
fn removed_folder_has_waited_as_long_as_what_went_with_it() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Removed(path("a/b")));
    let (_, since) = intake.waiting();
    assert!(since.is_some());
    intake.hear(Heard::Removed(path("a")));
    assert_eq!(intake.waiting(), (1, since));
}

#[test]
fn removals_fall_quiet_together() {
    let intake = intake(Kind::File, Duration::from_millis(20), LONG);
    for name in ["a", "b/c"] {
        intake.hear(Heard::Removed(path(name)));
    }
    let mut news = take(&intake, clock::now());
    while news.bulk.is_empty() {
        intake.woken().recv_timeout(Duration::from_secs(20)).expect("news");
        news = take(&intake, clock::now());
    }
    assert!(news.bulk.dirty.covers(&path("a")) && news.bulk.dirty.covers(&path("b/c")));
}

#[test]
fn other_delays_count_at_once_and_what_waited_by_the_old_ones_goes() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Removed(path("a")));
    intake.set_delays(LONG, LONG);
    assert!(take(&intake, clock::now()).bulk.is_empty(), "they are no others");
    let short = Duration::from_secs(1);
    intake.set_delays(short, short);
    assert!(intake.woken().try_recv().is_ok());
    assert!(take(&intake, clock::now()).bulk.dirty.covers(&path("a")));
    intake.hear(Heard::Removed(path("b")));
    assert!(take(&intake, later(clock::now(), short)).bulk.dirty.covers(&path("b")));
}

#[test]
fn a_path_that_never_rests_is_released_after_the_longest_delay() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Modified(path("a")));
    assert!(take(&intake, clock::now()).bulk.is_empty());
    assert!(take(&intake, later(clock::now(), LONG)).bulk.dirty.covers(&path("a")));
}

#[test]
fn a_quiet_path_is_released_by_the_debouncer() {
    let intake = intake(Kind::File, Duration::from_millis(20), LONG);
    intake.hear(Heard::Attributes(path("a")));
    loop {
        intake.woken().recv_timeout(Duration::from_secs(20)).expect("news");
        let news = take(&intake, clock::now());
        if news.bulk.dirty.covers(&path("a")) {
            break;
        }
    }
}

#[test]
fn a_storm_of_names_that_are_left_alone_is_one_look_at_the_times_of_their_folder_in_a_debounce() {
    let intake = intake(Kind::File, LONG, 2 * LONG);
    for _ in 0..1_000 {
        intake.hear(Heard::Listed(path("a")));
        intake.hear(Heard::Listed(path("")));
    }
    assert_eq!(intake.waiting().0, 2);
    assert!(take(&intake, clock::now()).bulk.is_empty());
    let mut waiting = crate::service::news::Taken::default();
    waiting.union(take(&intake, later(clock::now(), LONG)).bulk);
    waiting.insert(&path("b/c"), Doubt::contents(clock::now()), clock::now());
    let mut together = crate::service::news::Taken::default();
    together.insert(&path("d"), Doubt::contents(clock::now()), clock::now());
    together.union(waiting);
    let dirty = together.dirty;
    assert_eq!(dirty.seeds(), [path(""), path("a"), path("b")]);
    assert!(dirty.folder(&path("a")).is_some_and(|doubt| doubt.extent == Extent::Names && doubt.names.is_empty()));
    assert!(!dirty.covers(&path("a")) && !dirty.covers(&path("e")), "nothing is listed for it");
    assert!(take(&intake, later(clock::now(), LONG)).bulk.is_empty() && intake.waiting() == (0, None));
    intake.hear(Heard::Listed(path("a")));
    intake.hear(Heard::Cookie("1".into()));
    assert!(take(&intake, clock::now()).bulk.dirty.folder(&path("a")).is_some(), "a cookie brings it");
}

#[test]
fn renames_that_follow_one_another_become_one() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Renamed { from: path("a"), to: path("b") });
    intake.hear(Heard::Renamed { from: path("b"), to: path("c") });
    let news = take(&intake, clock::now());
    assert_eq!(news.express.renames, [(path("a"), path("c"))]);
}

#[test]
fn what_was_heard_of_the_contents_goes_along_with_each_rename_until_it_is_dealt_with() {
    let contents = |news: &News, name: &str| {
        let (folder, name) = path(name).split().map(|(folder, name)| (folder, name.to_vec())).expect("a name");
        let [express, bulk] = [&news.express, &news.bulk].map(|taken| taken.dirty.near(&folder).named(&name));
        express.or(bulk).map(|doubt| doubt.contents)
    };
    let renamed = |from: &str, to: &str| Heard::Renamed { from: path(from), to: path(to) };
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Written(path("a")));
    let oldest = take(&intake, clock::now()).express.oldest;
    assert!(oldest.is_some());
    intake.hear(renamed("a", "b"));
    intake.hear(renamed("b", "c"));
    intake.hear(renamed("other", "d"));
    let news = intake.take(clock::now(), oldest, |_| false);
    assert_eq!(["b", "c", "d"].map(|name| contents(&news, name)), [Some(true), Some(true), Some(false)]);
    assert!(take(&intake, later(clock::now(), Duration::from_secs(2))).express.is_empty());
    intake.hear(renamed("c", "e"));
    assert_eq!(contents(&take(&intake, clock::now()), "e"), Some(false), "all that was heard is dealt with");
}

#[test]
fn a_name_that_was_gone_when_it_was_looked_at_is_remembered_unless_it_is_found_elsewhere() {
    let id = InodeId { dev: 0, ino: 1 };
    let there = move |at: &RelPath| (*at == path("kept")).then_some(Found { kind: Kind::File, is_linked: true, id });
    let intake = Intake::new(LONG, LONG, Arc::new(there));
    intake.hear(Heard::Made(path("kept")));
    assert!(!intake.take_vanished());
    intake.hear(Heard::Made(path("gone")));
    assert!(intake.take_vanished() && !intake.take_vanished());
    intake.hear(Heard::Made(path("kept.tmp")));
    take(&intake, clock::now());
    intake.hear(Heard::Renamed { from: path("kept.tmp"), to: path("kept") });
    assert!(!intake.take_vanished());
    assert_eq!(take(&intake, clock::now()).linked, [(path("kept"), id)]);
    intake.hear(Heard::FolderMade(path("gone")));
    intake.hear(Heard::Renamed { from: path("gone"), to: path("lost") });
    assert!(intake.take_vanished());
}

#[test]
fn lost_events_put_everything_in_doubt_and_lose_no_cookie() {
    let intake = intake(Kind::File, LONG, LONG);
    intake.hear(Heard::Cookie("1".into()));
    intake.hear(Heard::Modified(path("a")));
    intake.hear(Heard::Lost);
    let news = take(&intake, clock::now());
    assert!(news.lost.is_some() && news.cookies.len() == 1);
}
