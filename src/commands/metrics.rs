//! Owns how the figures for monitoring are set up under `watch`: what is refused before anything runs, and the start and
//! end of what hands them out. What they are is `service::metrics`'s.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::open::{Refusal, shown, words};
use crate::config::Settings;
use crate::fs::mounts::{Relation, relation};
use crate::service::log::Log;
use crate::service::metrics::file::{self, MetricsFile};
use crate::service::metrics::{Figures, http};
use crate::service::status::Status;

/// What was asked for, and can be had.
#[derive(Debug)]
pub struct Metrics {
    file: Option<PathBuf>,
    listener: Option<TcpListener>,
}

/// What is handed out while the service runs.
#[derive(Debug)]
pub struct Running(Option<MetricsFile>);

impl Metrics {
    /// Tries the file and takes the address.
    ///
    /// # Errors
    /// The file cannot be written, or the address cannot be had.
    pub fn prepare(settings: &Settings) -> Result<Self, Refusal> {
        if let Some(path) = &settings.metrics {
            file::check(path).map_err(|error| unwritable(path, &error))?;
        }
        let listener = settings.metrics_listen.map(|address| {
            http::listen(address).map_err(|error| {
                let unit = match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::AFNOSUPPORT) => "; the unit's RestrictAddressFamilies= and PrivateNetwork= decide that",
                    _ => "",
                };
                Refusal::Start(format!("--metrics-listen cannot listen at {address}: {}{unit}", words(&error)))
            })
        });
        Ok(Self { file: settings.metrics.clone(), listener: listener.transpose()? })
    }

    /// # Errors
    /// When there is no thread to be had.
    pub fn start(self, figures: Figures, log: &Log) -> std::io::Result<Running> {
        if let Some(listener) = self.listener {
            http::serve(listener, figures.clone())?;
        }
        let file = self.file.map(|path| MetricsFile::start(path, figures, log.clone()));
        Ok(Running(file.transpose()?))
    }
}

impl Running {
    /// Leaves the last figures behind.
    pub fn finish(self, last: Status) {
        if let Some(file) = self.0 {
            file.finish(last);
        }
    }
}

/// Whether there can be a file for the figures, as far as that is seen without making one.
///
/// # Errors
/// It lies in one of the folders, or something is there that is no file.
pub fn place(settings: &Settings, roots: (&Path, &Path)) -> Result<(), Refusal> {
    let Some(path) = &settings.metrics else { return Ok(()) };
    if let Some(side) = inside(path, roots) {
        let why = format!("lies inside the {side}: put it elsewhere");
        return Err(Refusal::Start(format!("the metrics file {} {why}", shown(path))));
    }
    file::refuse_if_special(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::Start(format!("the metrics file {} cannot be written: {}", shown(path), words(error)))
}

/// In which of the two folders a file lies: there it would be a change of its own making.
fn inside(path: &Path, (source, replica): (&Path, &Path)) -> Option<&'static str> {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok())?;
    let is_in = |root: &Path| matches!(relation(root, &folder), Relation::Same | Relation::Inside);
    if is_in(source) { Some("source") } else { is_in(replica).then_some("replica") }
}
