//! Owns `service add`: what is checked before, what is written, and what is to be done then.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::configuration;
use super::layout::{Configured, Layout, SYSTEM_CONFIGURATIONS, Unit, configured_in};
use super::systemctl::Systemctl;
use super::unit::{self, DropIn};
use super::writing::Writing;
use super::{Trouble, say, text_of};
use crate::cli::ServiceAddArgs;
use crate::commands::open::{self, Paths, shown};
use crate::config::Settings;
use crate::fs::mounts::{self, Relation, Wanted, relation};
use crate::tree::tag::Tag;

/// A file that is to be there.
struct Planned {
    path: PathBuf,
    text: String,
}

/// Runs `driftless service add`.
///
/// # Errors
/// What is wrong with the pair, or cannot be written: then nothing is left of it.
pub fn run(args: &ServiceAddArgs) -> Result<ExitCode, Trouble> {
    let layout = Layout::of(&args.scope)?;
    let paths = check(args, &layout)?;
    let files = plan(&args.name, &layout, &paths)?;
    let had_any = files.iter().any(|file| file.path.symlink_metadata().is_ok());
    if let Some(there) = files.iter().find(|file| !args.force && file.path.symlink_metadata().is_ok()) {
        return Err(Trouble::AlreadyThere { path: there.path.clone() });
    }
    let mut writing = Writing::default();
    // Until the first sweep gives it the source's mode, it is nobody else's business.
    let made_replica = writing.folder(&paths.replica, 0o700)?;
    for file in &files {
        writing.file(&file.path, &file.text, args.force)?;
    }
    if !files.iter().any(|file| file.path == layout.drop_in(&args.name)) {
        forget_drop_in(&layout.drop_in(&args.name), args.force)?;
    }
    writing.keep();
    if made_replica {
        say(format_args!("Made the folder {}", shown(&paths.replica)));
    }
    for file in &files {
        say(format_args!("Wrote {}", shown(&file.path)));
    }
    if let Some(warning) = warning(&layout) {
        eprintln!("driftless: {warning}");
    }
    start(args, &layout, had_any)?;
    Ok(ExitCode::SUCCESS)
}

/// One of an earlier `service add` would go on to say what is no longer so.
fn forget_drop_in(path: &Path, force: bool) -> Result<(), Trouble> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if !force {
        return Err(Trouble::AlreadyThere { path: path.into() });
    }
    fs::remove_file(path).map_err(|source| Trouble::Write { path: path.into(), source })
}

fn start(args: &ServiceAddArgs, layout: &Layout, had_any: bool) -> Result<(), Trouble> {
    let systemctl = Systemctl::of(layout);
    let unit = Systemctl::unit(&args.name);
    // One that ran with the old files runs with the new ones then.
    let lines: &[&[&str]] = if had_any {
        &[&["daemon-reload"], &["enable", &unit], &["restart", &unit]]
    } else {
        &[&["daemon-reload"], &["enable", "--now", &unit]]
    };
    if layout.is_elsewhere {
        return Ok(());
    }
    if !args.enable {
        say(format_args!("To start it, now and at each {}:", if layout.for_user { "login" } else { "boot" }));
        lines.iter().for_each(|words| say(format_args!("  {}", systemctl.line(words))));
        return Ok(());
    }
    for words in lines {
        systemctl.run(&args.name, words)?;
    }
    say(format_args!(
        "What it does: {}driftless status --name {}, and {}",
        systemctl.sudo(),
        args.name,
        systemctl.journal(&args.name)
    ));
    if layout.for_user {
        say("To have it run while you are not logged in: loginctl enable-linger");
    }
    Ok(())
}

/// All that `watch` would refuse at its start, and what would come out only much later.
fn check(args: &ServiceAddArgs, layout: &Layout) -> Result<Paths, Trouble> {
    for (what, path) in [("source", &args.source), ("replica", &args.replica)] {
        if Tag::is(path) {
            let reason = "is named by its filesystem: add the service with the path where that is mounted now, and write \
                          the name into its configuration afterwards";
            return Err(Trouble::Unwritable { what, path: path.clone(), reason });
        }
    }
    let mut settings = Settings::of(&args.source, &args.replica)?;
    // A service that was never there has no source that might come back.
    settings.dry_run = true;
    let paths = open::check(&settings)?;
    text_of("source", &paths.source)?;
    text_of("replica", &paths.replica)?;
    for own in layout.own_folders() {
        if relation(own, &paths.replica) != Relation::Apart {
            return Err(Trouble::OwnFolder { path: paths.replica, own: own.into() });
        }
    }
    for (what, path) in [("source", &paths.source), ("replica", &paths.replica)] {
        if let Some(point) = missing_mount(layout, path) {
            return Err(Trouble::NotMounted { what, path: path.clone(), point });
        }
    }
    let mut others = layout.configured()?;
    others.retain(|other| other.name != args.name);
    if layout.for_user {
        // Those of the system may be none of this user's business.
        others.extend(configured_in(&layout.below_root(SYSTEM_CONFIGURATIONS)).unwrap_or_default());
    }
    for other in &others {
        compare(&args.name, &paths, other)?;
    }
    Ok(paths)
}

/// What fstab says about the mount that this folder is on, or should be.
fn wanted(layout: &Layout, path: &Path) -> Option<Wanted> {
    let wanted = mounts::wanted_by(&fs::read(layout.below_root("/etc/fstab")).ok()?);
    wanted.into_iter().filter(|line| path.starts_with(&line.point)).max_by_key(|line| line.point.components().count())
}

/// Where fstab has a mount for this folder and none is there now.
fn missing_mount(layout: &Layout, path: &Path) -> Option<PathBuf> {
    let (wanted, actual) = (wanted(layout, path)?.point, mounts::point_of(path)?);
    (!actual.starts_with(&wanted)).then_some(wanted)
}

/// Whether the service shall start only once the folder's own mount is there. One that the machine starts without is
/// waited for by the service itself, which goes on when it is mounted; systemd would leave it stopped.
fn needs_mount(layout: &Layout, path: &Path) -> bool {
    mounts::point_of(path).is_some_and(|point| {
        let is_optional = wanted(layout, path).is_some_and(|wanted| wanted.is_optional && wanted.point == point);
        point != Path::new("/") && !is_optional
    })
}

/// The mount point of a replica on a disk that comes and goes, such as /mnt/backup. One at the top, such as /home, has
/// more in it than the service should be able to write to.
fn disk_of(replica: &Path) -> Option<PathBuf> {
    // The root counts as a component.
    mounts::point_of(replica).filter(|point| point.components().count() > 2)
}

fn compare(name: &str, paths: &Paths, other: &Configured) -> Result<(), Trouble> {
    // One that cannot be read runs nothing.
    let Ok(settings) = &other.settings else { return Ok(()) };
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let (source, replica) = (real(&settings.source), real(&settings.replica));
    let taken = |reason| Err(Trouble::Taken { reason, path: other.path.clone() });
    match relation(&replica, &paths.replica) {
        Relation::Apart => {}
        Relation::Same => return taken(format!("{} is the replica of another service", shown(&paths.replica))),
        _ => {
            return taken(format!(
                "{} and {}, another service's replica, are in one another",
                shown(&paths.replica),
                shown(&replica)
            ));
        }
    }
    if relation(&replica, &paths.source) == Relation::Same && relation(&source, &paths.replica) == Relation::Same {
        return taken("another service keeps the same two folders the other way round".into());
    }
    if settings.name.as_deref() == Some(name) {
        return taken(format!("the name {name} is that of another service's control socket"));
    }
    Ok(())
}

fn plan(name: &str, layout: &Layout, paths: &Paths) -> Result<Vec<Planned>, Trouble> {
    let (source, replica) = (text_of("source", &paths.source)?, text_of("replica", &paths.replica)?);
    let program = program()?;
    let program = text_of("program", &program)?;
    if !unit::can_be_program(program) {
        let reason = "has a quote or a backslash in its path, which systemd refuses in a program's";
        return Err(Trouble::Unwritable { what: "program", path: program.into(), reason });
    }
    let mut files =
        vec![Planned { path: layout.configuration(name), text: configuration::text(name, source, replica) }];
    let found = layout.unit();
    let own = format!("{}\n{}", unit::MARK, unit::with_program(layout.shipped_unit(), program));
    let text = match found {
        // One from another version of the program is renewed.
        Some(Unit { path, text }) if path != layout.own_unit() || !text.starts_with(unit::MARK) || text == own => text,
        _ => {
            files.push(Planned { path: layout.own_unit(), text: own.clone() });
            own
        }
    };
    let is_below_tmp = |path: &&Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
    let disk = disk_of(&paths.replica);
    // It is a part of the replica's path, which is text.
    let place = disk.as_deref().and_then(Path::to_str).unwrap_or(replica);
    let drop_in = DropIn {
        // A user's manager mounts nothing.
        after_mounts: [source, replica]
            .into_iter()
            .filter(|path| !layout.for_user && needs_mount(layout, Path::new(path)))
            .collect(),
        writable: (!layout.for_user || unit::restricts_writing(&text)).then_some(place),
        is_disk: disk.is_some(),
        needs_real_tmp: unit::has_own_tmp(&text) && [&*paths.source, &*paths.replica].iter().any(is_below_tmp),
        exec_start: unit::other_command(&text, program),
    };
    if let Some(text) = drop_in.text(name, layout.for_user) {
        files.push(Planned { path: layout.drop_in(name), text });
    }
    Ok(files)
}

/// A service of the system runs as root whatever this program is then.
fn warning(layout: &Layout) -> Option<String> {
    let program = program().ok().filter(|_| !layout.for_user)?;
    let owner = |path: &Path| path.metadata().map_or(0, |metadata| metadata.uid());
    let uid = program.ancestors().map(owner).find(|uid| *uid != 0)?;
    Some(format!(
        "{} can be changed by the user {uid}, and will be run by root: it had better be installed in /usr/bin",
        shown(&program)
    ))
}

fn program() -> Result<PathBuf, Trouble> {
    let path = || PathBuf::from("/proc/self/exe");
    let program = env::current_exe().map_err(|source| Trouble::Read { path: path(), source })?;
    // Replaced or removed since it was started.
    program.metadata().map_err(|source| Trouble::Read { path: program.clone(), source })?;
    Ok(program)
}
