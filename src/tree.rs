//! The words: plain data that everything else is said in. No I/O, no clock, no log.

pub mod codec;
pub mod digest;
pub mod doubt;
pub mod entry;
pub mod exclude;
pub mod history;
pub mod identity;
pub mod intent;
pub mod listing;
pub mod name;
pub mod operation;
pub mod path;
pub mod quote;
pub mod record;
pub mod tag;
pub mod totals;
