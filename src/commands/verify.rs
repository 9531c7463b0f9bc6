//! Owns `verify`: both sides compared, byte by byte and attribute by attribute, one line a difference. It changes
//! nothing, takes no lock and trusts no memory of earlier passes.

mod attributes;
mod entry;
mod manifest;
mod report;
mod walk;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::open::{self, Refusal};
use super::signals;
use crate::cli::VerifyArgs;
use crate::config::{self, Settings};
use crate::fs::metadata::Rights;
use crate::fs::pulse::Pulse;
use crate::fs::root::Root;
use crate::tree::exclude::Exclude;
use crate::tree::path::RelPath;
use manifest::Manifest;
use report::Report;

/// What is compared, and how closely it is told.
struct Verify {
    source: Root,
    replica: Root,
    exclude: Exclude,
    rights: Rights,
    one_file_system: bool,
    /// Every file's MD5 is wanted.
    digests: bool,
    /// Both values of an attribute that differs are wanted.
    details: bool,
}

/// Runs `driftless verify`.
///
/// # Errors
/// What makes the folders, the options or the manifest's place unusable.
pub fn run(args: &VerifyArgs) -> Result<ExitCode, Refusal> {
    let start = Instant::now();
    // Opened as for a dry run: nothing is made, nothing locked.
    let settings = Settings { dry_run: true, ..Settings::for_verify(args)? };
    let paths = open::check(&settings)?;
    if !paths.has_replica {
        return Err(Refusal::Replica { path: paths.replica, reason: "it does not exist".into() });
    }
    let mut exclude = open::patterns(&settings)?;
    let pulse = Pulse::new(signals::stop_flag());
    let (source, replica) = open::roots(&paths, &settings)?;
    if let Ok(state) = config::state_dir() {
        leave_out(&mut exclude, &state, [&source, &replica]);
    }
    let unusable = |error: io::Error| {
        let path = args.manifest.clone().unwrap_or_default();
        Refusal::Manifest { path, reason: open::words(&error) }
    };
    let mut manifest = args.manifest.as_deref().map(Manifest::create).transpose().map_err(unusable)?;
    for own in manifest.iter().flat_map(Manifest::paths) {
        leave_out(&mut exclude, &own, [&source, &replica]);
    }
    let verify = Verify {
        source,
        replica,
        exclude,
        rights: Rights::of_this_process(),
        one_file_system: settings.one_file_system,
        digests: manifest.is_some(),
        details: settings.verbosity > 0,
    };
    let out: Box<dyn Write> = match &manifest {
        Some(manifest) if manifest.is_stdout() => Box::new(io::stderr().lock()),
        _ => Box::new(io::stdout().lock()),
    };
    let mut report = Report::new(&verify, out, manifest.as_mut());
    let result = walk::run(&verify, settings.jobs, &mut report, &pulse);
    let stopped = pulse.is_stopped();
    let equal = report.is_clean() && !stopped;
    let result = match result {
        Ok(()) if settings.verbosity >= 0 => report.summary(stopped, start.elapsed()),
        done => done,
    };
    drop(report);
    if let Some(manifest) = manifest {
        // Half a manifest would pass for a whole one.
        if stopped { manifest.discard() } else { manifest.publish().map_err(unusable)? }
    }
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Refusal::Output(open::words(&error))),
        Ok(()) if equal => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::from(1)),
    }
}

/// Leaves out one of the program's own files or folders in whichever side it lies.
fn leave_out(exclude: &mut Exclude, own: &Path, roots: [&Root; 2]) {
    let own = resolved(own);
    for root in roots {
        if let Some(path) = RelPath::below(root.path(), &own).filter(|p| !p.is_root()) {
            exclude.add_own(path);
        }
    }
}

/// The path with its folder's real name.
fn resolved(path: &Path) -> PathBuf {
    match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}
