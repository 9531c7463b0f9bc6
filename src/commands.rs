//! The commands, one module each.

pub mod advice;
pub mod check_config;
pub mod client;
pub mod generate;
pub mod history;
pub mod memory;
pub mod metrics;
pub mod open;
pub mod pairs;
pub mod progress;
pub mod reload;
pub mod restore;
pub mod scrub;
pub mod service;
pub mod several;
pub mod signals;
pub mod status;
pub mod sync;
pub mod terminal;
pub mod verify;
pub mod watch;
pub mod which;
