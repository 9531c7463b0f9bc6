//! One side saves again and again while the other is brought up to date: however soon the next save comes, it is never
//! taken for a conflict with the copy of the last, and never lost.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::disk;
use crate::fixture::Pair;

const SAVES: usize = 150;
/// In milliseconds: within the clock's grain, within the debounce, and just beyond.
const PAUSES: [u64; 6] = [0, 1, 5, 2, 20, 10];

#[test]
fn saves_in_quick_succession_on_one_side_are_never_a_conflict_and_never_lost() {
    for is_forth in [true, false] {
        let pair = Pair::new();
        let watch = pair.watch(&["--two-way", "--debounce", "1ms", "--max-delay", "50ms"]);
        let side = if is_forth { pair.source() } else { pair.replica() };
        let path = |nth: usize| side.join(["atomic", "in place", "either"][nth % 3]);
        for nth in 0..SAVES {
            let save = |path: &Path| match (nth % 3, nth % 2) {
                (0, _) | (2, 0) => disk::save_atomically(path, format!("{nth:06}").as_bytes()),
                _ => disk::write(path, format!("{nth:06}")),
            };
            save(&path(nth));
            std::thread::sleep(Duration::from_millis(PAUSES[nth % PAUSES.len()]));
        }
        watch.flush();
        watch.assert_follows();
        let log = watch.log();
        assert!(!log.contains("Conflict"), "{log}");
        for nth in SAVES - 3..SAVES {
            assert_eq!(fs::read_to_string(path(nth)).expect("a file"), format!("{nth:06}"));
        }
        watch.stop();
        pair.assert_same();
    }
}
