//! Owns `watch`: it opens the pair, starts the service's threads in their order, and waits for the end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::advice;
use super::memory;
use super::metrics::{self, Metrics};
use super::open::{self, Refusal};
use super::pairs;
use super::progress::Progress;
use super::reload;
use super::several;
use crate::cli::WatchArgs;
use crate::config::{self, Settings, Shown};
use crate::fs::mounts;
use crate::fs::root::Root;
use crate::fs::watch::{Heard, Watches};
use crate::service::clock;
use crate::service::control::{self, ControlServer, Request};
use crate::service::dispatcher::scrubs::Plan;
use crate::service::dispatcher::{Dispatcher, Inbox, requests};
use crate::service::intake::{Found, Intake};
use crate::service::log::{self, Log};
use crate::service::look::Renew;
use crate::service::metrics::Figures;
use crate::service::pair::{Pair, clear_leftovers};
use crate::service::pass::describe;
use crate::service::rules::InForce;
use crate::tree::entry::Seen;
use crate::tree::path::RelPath;

/// Runs `driftless watch`.
///
/// # Errors
/// What makes the folders or the options unusable.
pub fn run(args: &WatchArgs) -> Result<ExitCode, Refusal> {
    match (&args.copying.pairs, &args.one_of) {
        (None, _) => one(args, true),
        (Some(_), Some(words)) => one(&several::member(args, words)?, false),
        (Some(file), None) => {
            let of = |source: &Path, replica: &Path| Settings::for_watch(&pairs::watch_args(args, source, replica));
            match pairs::settings(file, of)?.as_slice() {
                [pair] => one(&pairs::watch_args(args, &pair.source, &pair.replica), true),
                all => several::run(args, file, all),
            }
        }
    }
}

/// Serves one pair; the terminal may be shared with others.
fn one(args: &WatchArgs, has_terminal: bool) -> Result<ExitCode, Refusal> {
    let mut settings = Settings::for_watch(args)?;
    if !has_terminal {
        settings.progress = Shown::Never;
    }
    let paths = open::check(&settings)?;
    open::patterns(&settings)?;
    open::log_place(&settings)?;
    open::control_place(&settings)?;
    metrics::place(&settings, (&paths.source, &paths.replica))?;
    let signals = listen()?;
    let roots = open::roots(&paths, &settings)?;
    config::make_state_dir()?;
    let metrics = Metrics::prepare(&settings)?;
    let progress = Progress::new(&settings);
    let (log, guard) = log::start(&progress.log_options(&settings)).map_err(Refusal::Log)?;
    if let Some(warning) = args.config.as_deref().and_then(config::untrusted) {
        log.warn(warning);
    }
    let result = serve(roots, (args, &settings), metrics, log, signals, &progress);
    progress.finish();
    guard.finish();
    result.map(|()| ExitCode::SUCCESS)
}

fn serve(
    (source, replica): (Root, Root),
    (args, settings): (&WatchArgs, &Settings),
    metrics: Metrics,
    log: Log,
    signals: Receiver<i32>,
    progress: &Progress,
) -> Result<(), Refusal> {
    let state = memory::state_of(&source, &replica)?;
    let (send, inbox) = requests();
    let name = settings.name.clone().unwrap_or_else(|| config::pair_name(source.name(), replica.name()));
    let control = control_server(settings, &name, send.clone())?;
    let exclude = open::exclude((&source, &replica), settings, &log)?;
    let reload = reload::reload(args, settings, &exclude, (&source, &replica))?;
    let onlooker = progress.start(source.path(), &exclude, settings);
    let in_force = open::in_force(exclude, settings);
    let mut followed = vec![Followed::new(&state.join("cookies"), settings)?];
    if settings.two_way {
        followed.push(Followed::new(&state.join("cookies of the replica"), settings)?);
    }
    let starts: Vec<_> = followed.iter().map(|followed| followed.start(&in_force, &log)).collect();
    let renew: Renew = Arc::new(move |paths| starts.iter().zip(paths).map(|(start, path)| start(path)).collect());
    let (pair, misplaced) = open::pair((source, replica), in_force, settings, log)?;
    let (source, replica) = (pair.source.path(), pair.replica.path());
    let mut watches = match misplaced {
        None => renew(&[source, replica]).map_err(|reason| start_failed(&reason))?,
        Some(_) => vec![],
    }
    .into_iter();
    let mut sides = followed.into_iter();
    let mut way = |pair: Pair| {
        let Followed { intake, lost, .. } = sides.next()?;
        Some((Arc::new(Pair { watches: watches.next(), lost, ..pair }), intake))
    };
    let back = pair.two_way.clone().map(|two_way| pair.reversed(two_way)).transpose();
    let back = back.map_err(|e| Refusal::Start(describe(e)))?;
    if let Some(back) = back.as_ref().filter(|_| misplaced.is_none()) {
        clear_leftovers(&back.replica, &back.stage, &back.log);
    }
    let ways: Vec<_> = [Some(pair), back].into_iter().flatten().filter_map(&mut way).collect();
    let Some((pair, _)) = ways.first() else { return Err(Refusal::Start("there is nothing to follow".into())) };
    let pair = Arc::clone(pair);
    let figures = Figures { name, requests: send, latency: Arc::clone(&pair.latency) };
    let teller = pair.log.clone();
    let mounts = follow_mounts(&pair.log);
    drop(pair);
    let dispatcher = Dispatcher::new(ways, settings.interval, (misplaced, renew)).map_err(|e| start_failed(&e))?;
    let dispatcher = match reload {
        Some(reload) => dispatcher.reload_with(reload),
        None => dispatcher,
    };
    let plan = settings.scrub_every.map(|every| Plan { every, rate: settings.scrub_rate });
    let dispatcher = dispatcher.scrubbing(plan);
    let metrics = metrics.start(figures, &teller).map_err(|e| start_failed(&e))?;
    let last = dispatcher.looked_on_by(onlooker).run(&Inbox { requests: inbox, signals, mounts });
    control.stop();
    metrics.finish(last);
    Ok(())
}

/// A folder that is followed, and where what is heard of it goes.
struct Followed {
    cookies: PathBuf,
    intake: Arc<Intake>,
    /// When events were last lost.
    lost: Arc<AtomicU64>,
}

impl Followed {
    fn new(cookies: &Path, settings: &Settings) -> Result<Self, Refusal> {
        let unusable = |source| config::ConfigError::StateFolder { path: cookies.into(), source };
        std::fs::create_dir_all(cookies).map_err(unusable)?;
        let intake = Intake::new(settings.debounce, settings.max_delay, Arc::new(|_| None));
        Ok(Self { cookies: cookies.into(), intake, lost: Arc::default() })
    }

    /// What starts to watch and to look into the folder that is at a path then.
    fn start(
        &self,
        in_force: &Arc<InForce>,
        log: &Log,
    ) -> impl Fn(&Path) -> Result<Watches, String> + Send + Sync + use<> {
        let (left_alone, losses, listener) = (in_force.clone(), self.lost.clone(), self.intake.clone());
        let (verbose, teller) = (log.clone(), log.clone());
        let hear = move |heard: Heard| {
            if heard == Heard::Lost {
                losses.store(clock::now().0, Ordering::SeqCst);
            }
            // The log among them: a line about it would be another event.
            if heard.paths().into_iter().flatten().all(|path| left_alone.leave_alone(path)) && !heard.is_general() {
                return left_alone.rest_of(&heard).into_iter().for_each(|rest| listener.hear(rest));
            }
            if verbose.is_verbose() {
                verbose.debug(format_args!("{heard:?}"));
            }
            listener.hear(heard);
        };
        let (cookies, looker) = (self.cookies.clone(), self.intake.clone());
        move |path| {
            let looking = Root::open(path).map_err(|e| e.to_string())?;
            looker.look_with(Arc::new(move |path: &RelPath| match looking.look_at(path) {
                Ok(Seen::Present(stat)) => Some(Found { kind: stat.kind, is_linked: stat.is_linked(), id: stat.id() }),
                _ => None,
            }));
            let watches = Watches::start(path, &cookies, hear.clone()).map_err(|e| advice::no_watches(&e))?;
            teller.info(format_args!("Watching: {}", open::shown(path)));
            Ok(watches)
        }
    }
}

/// Tells of every change of the table of mounts. Without that, sweeps find them.
fn follow_mounts(log: &Log) -> Receiver<()> {
    let (tell, changed) = bounded(1);
    let follow = move || !matches!(tell.try_send(()), Err(TrySendError::Disconnected(())));
    match mounts::follow(follow) {
        Ok(()) => changed,
        Err(error) => {
            log.debug(format_args!("Mounts are not followed: {error}"));
            never()
        }
    }
}

fn control_server(settings: &Settings, name: &str, requests: Sender<Request>) -> Result<ControlServer, Refusal> {
    let path = settings.control.clone().unwrap_or_else(|| control::default_socket(name));
    control::serve(Path::new(&path), requests).map_err(|e| Refusal::Start(advice::no_socket(&path, &e)))
}

fn start_failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::Start(error.to_string())
}

/// Registers the signals, before any thread starts, and hands them on. The second one that says stop ends the program.
fn listen() -> Result<Receiver<i32>, Refusal> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).map_err(|e| start_failed(&e))?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| start_failed(&e))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).map_err(|e| start_failed(&e))?;
    let (send, receive) = unbounded();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().try_for_each(|signal| send.send(signal).map_err(drop)))
        .map_err(|e| start_failed(&e))?;
    Ok(receive)
}
