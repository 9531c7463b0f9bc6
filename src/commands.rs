//! The commands, one module each.

pub mod client;
pub mod generate;
pub mod open;
pub mod signals;
pub mod sync;
pub mod verify;
pub mod watch;
