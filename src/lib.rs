//! placeholder
pub mod cli;
pub mod commands;
pub mod config;
pub mod fs;
pub mod plan;
pub mod service;
pub mod tree;
