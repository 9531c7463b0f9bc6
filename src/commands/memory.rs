//! Owns opening what is remembered of a pair: its archive in the state folder, a copy of it for who writes nothing, or none.

use std::fs;
use std::path::{Path, PathBuf};

use super::open::Refusal;
use crate::config::{self, ConfigError, Durability, Settings};
use crate::fs::archive::Archive;
use crate::fs::disk::Disk;
use crate::fs::root::Root;
use crate::service::intents::mountings;
use crate::service::log::Log;

/// Opens it, and says what of it is not relied on.
///
/// # Errors
/// A state folder that cannot be used, or an archive that somebody else uses.
pub fn open((source, replica): (&Root, &Root), settings: &Settings, log: &Log) -> Result<Archive, Refusal> {
    let archive = match (settings.dry_run, settings.two_way) {
        // Without what was agreed, what is new could not be told from what is gone from the other side.
        (true, true) => copy_of_archive(source, replica, log)?,
        // What is recorded of contents tells what a pass would refuse to copy.
        (true, false) => known_of(source, replica),
        _ => archive(&state_of(source, replica)?, log)?,
    };
    let durable = settings.durability == Durability::Batch;
    let begun = if settings.two_way {
        let takes_all = |root: &Root| Disk::open(root, false).is_ok_and(|disk| disk.takes_all());
        archive.begin_both(durable && takes_all(source) && takes_all(replica), mountings(source, replica)).map(
            |is_lost| {
                if is_lost {
                    log.warn(
                        "The last run was cut short: what was agreed is not relied on, and nothing is removed by it",
                    );
                }
                0
            },
        )
    } else {
        archive.begin(durable)
    };
    match begun {
        Ok(0) => {}
        Ok(young) => log.info(format_args!(
            "The last run may have been cut short: what had changed shortly before is compared ({young} {})",
            if young == 1 { "entry" } else { "entries" }
        )),
        Err(reason) => log.warn(reason),
    }
    Ok(archive)
}

/// The archive's file in the pair's state folder.
const ARCHIVE: &str = "archive.redb";

/// Where the archive of a pair of these names is, if there is one.
///
/// # Errors
/// There is no place for the state.
pub fn archive_of(source: &Path, replica: &Path) -> Result<PathBuf, ConfigError> {
    Ok(config::state_dir()?.join(config::pair_name(source, replica)).join(ARCHIVE))
}

/// The folder for what is kept of this pair, made if it is missing.
///
/// # Errors
/// There is no place for it, or it cannot be made.
pub fn state_of(source: &Root, replica: &Root) -> Result<PathBuf, Refusal> {
    let path = config::make_state_dir()?.join(config::pair_name(source.name(), replica.name()));
    fs::create_dir_all(&path).map_err(|source| ConfigError::StateFolder { path: path.clone(), source })?;
    Ok(path)
}

/// What is known of the pair, for who writes nothing.
fn copy_of_archive(source: &Root, replica: &Root, log: &Log) -> Result<Archive, Refusal> {
    match Archive::copy_of(&archive_of(source.name(), replica.name())?, mountings(source, replica)) {
        Ok(archive) => Ok(archive),
        Err(reason) if reason.is_in_use => Err(Refusal::Agreeing),
        Err(reason) => {
            log.warn(format_args!("{reason}; this goes as if nothing had ever been agreed"));
            Ok(Archive::in_memory())
        }
    }
}

/// The same one way, where all can be compared: what is known saves that, and nobody who works with it is disturbed.
fn known_of(source: &Root, replica: &Root) -> Archive {
    let path = archive_of(source.name(), replica.name()).ok();
    path.and_then(|path| Archive::copy_of(&path, None).ok()).unwrap_or_else(Archive::in_memory)
}

fn archive(state: &Path, log: &Log) -> Result<Archive, Refusal> {
    match Archive::open(&state.join(ARCHIVE)) {
        Ok(archive) => Ok(archive),
        // A service that waits for its replica has no lock on that, but on this.
        Err(reason) if reason.is_in_use => Err(Refusal::InUse),
        Err(reason) => {
            log.warn(format_args!("{reason}; everything will be compared at each start"));
            Ok(Archive::in_memory())
        }
    }
}
