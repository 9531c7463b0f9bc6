//! What to do: pure functions from data to data. Nothing here can fail, touch a disk, log, or read a clock.

pub mod conflict;
pub mod database;
pub mod decay;
pub mod guard;
pub mod keep;
pub mod links;
pub mod mirror;
pub mod rewind;
pub mod schedule;
pub mod thin;
pub mod two_way;
