//! Owns calls into a library that panics where a file of its own is damaged: the call fails, the process goes on. Every
//! other panic ends the process, since what was not finished is found by the next start, and what hangs by nobody.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::process;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls it; nothing comes of it if it panics. What it was working on must not be used again.
pub fn call<T>(call: impl FnOnce() -> T) -> Option<T> {
    let before = IS_GUARDED.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(before);
    done.ok()
}

/// From now on a panic in any thread ends the process, unless it is guarded: a service without one of its threads would
/// go on as if all were well.
pub fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_GUARDED.get() {
            report(info);
            process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_guarded_call_is_nothing() {
        assert_eq!(call(|| 1), Some(1));
        assert_eq!(call(|| -> u32 { panic!("as a damaged file makes a library do") }), None);
        assert!(!IS_GUARDED.get());
    }
}
