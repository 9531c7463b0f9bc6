//! Owns the walk: workers that take folders, open and watch them, and do or hand on what there is to do in them. What
//! becomes of each name is found out in `names`.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::io::Errno;

use super::Pass;
use super::databases::InDoubt;
use super::files::{Job, Ready};
use super::folders::{self, Node, complete};
use super::make::Made;
use super::moved::Before;
use super::publisher::Batch;
use super::queue::{Next, Task};
use super::unseen::{Unseen, Within};
use crate::fs::count;
use crate::fs::disk::Disk;
use crate::fs::root::open_child;
use crate::fs::scan::Opened;
use crate::fs::stage::Staged;
use crate::fs::trust;
use crate::fs::watch::{NoWatch, Watching};
use crate::service::agreements::Ids;
use crate::service::clock;
use crate::service::pair::Pair;
use crate::service::status;
use crate::tree::doubt::{Doubt, Extent};
use crate::tree::entry::{InodeId, Kind};
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;

/// As many files of one folder are handed on together.
const CHUNK: usize = 32;

/// A folder to be looked at.
pub struct FolderTask {
    pub(super) path: RelPath,
    pub(super) parent: Option<Arc<Node>>,
    pub(super) extent: Extent,
    pub(super) names: BTreeMap<Box<[u8]>, Doubt>,
    /// The replica had none before.
    pub(super) made: Option<Made>,
    pub(super) attributes_agreed: bool,
}

/// Both sides of a folder.
struct Sides {
    source: OwnedFd,
    replica: Option<OwnedFd>,
    /// The replica's is not yet in its place.
    staged: Option<Staged>,
}

impl FolderTask {
    /// Whether one thread does it best.
    pub fn is_small(&self) -> bool {
        self.extent == Extent::Names && self.names.len() <= CHUNK && !self.names.values().any(|d| d.below)
    }
}

/// The task with which looking at a folder in doubt starts.
pub fn seed(pass: &Pass, path: RelPath) -> Task {
    let doubt = pass.dirty.folder(&path).cloned().unwrap_or_default();
    let (extent, names) = (doubt.extent, doubt.names);
    // A look at the whole folder is one at its attributes too.
    let attributes_agreed = extent == Extent::Names;
    Task::Folder(FolderTask { path, parent: None, extent, names, made: None, attributes_agreed })
}

/// What there is to do in a folder.
#[derive(Default)]
pub(super) struct Found {
    pub(super) jobs: Vec<Job>,
    /// By the names of the databases' own files.
    pub(super) databases: BTreeMap<Box<[u8]>, InDoubt>,
    pub(super) opened: Opened,
    /// By the names of new files, what they were in this folder.
    pub(super) before: HashMap<Box<[u8]>, Before>,
}

/// One thread of a pass.
pub struct Worker<'a> {
    pub pass: &'a Pass<'a>,
    pub totals: Totals,
    /// Built and not yet published.
    pub ready: Vec<Ready>,
    pub ready_bytes: u64,
    /// Folders that are built and not yet published.
    pub unseen: Vec<Unseen>,
    /// What is built in a folder that is not to be seen before all of it is.
    pub unseen_now: Option<Vec<Within>>,
    /// How often bringing to disk had failed when the first of what is built was begun.
    pub failures: u64,
    /// Opened before the first file is built.
    pub disk: Option<Disk>,
    /// To the thread that publishes, if there is one.
    pub hand_over: Option<Sender<Batch>>,
}

struct Busy<'a>(&'a Pass<'a>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.queue.finished();
    }
}

impl<'a> Worker<'a> {
    pub fn new(pass: &'a Pass<'a>) -> Self {
        Self {
            pass,
            totals: Totals::default(),
            ready: Vec::new(),
            ready_bytes: 0,
            unseen: Vec::new(),
            unseen_now: None,
            failures: 0,
            disk: None,
            hand_over: None,
        }
    }

    /// Works until no one has anything left to do.
    pub fn work(mut self) -> Totals {
        loop {
            self.pass.pulse.beat();
            match self.pass.queue.take() {
                Next::Task(task) => {
                    let _busy = Busy(self.pass);
                    match task {
                        Task::Folder(task) => self.folder(task),
                        Task::Files(node, jobs) => self.files(node, jobs),
                        Task::Slice(node, slice) => self.slice(node, slice),
                        Task::Database(node, base, in_doubt) => self.database(node, &base, in_doubt),
                    }
                }
                _ if self.has_ready() => self.publish_ready(),
                Next::Idle => self.pass.queue.wait(),
                Next::Done => return self.totals,
            }
        }
    }

    fn files(&mut self, node: Arc<Node>, jobs: Vec<Job>) {
        for job in jobs {
            if !self.pass.is_cancelled() {
                self.pass.pulse.beat();
                self.job(&node, job);
            }
        }
        complete(self.pass, node, &mut self.totals);
    }

    fn folder(&mut self, task: FolderTask) {
        let parent = task.parent.clone();
        if !self.pass.is_cancelled() {
            let mut task = task;
            let path = task.path.clone();
            match self.visit(&mut task) {
                Ok(()) => {}
                // It was there a moment ago: whoever lists its parent will know.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if parent.is_some() => {
                    self.pass.again(&path, Doubt::subtree(clock::now()));
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.escalate(&path, &task.names),
                Err(error) => self.pass.failed(&path, "cannot open the folder", error),
            }
        }
        if let Some(parent) = parent {
            complete(self.pass, parent, &mut self.totals);
        }
    }

    /// A folder in doubt is not there on one side: it is an entry of its parent that is in doubt.
    fn escalate(&mut self, path: &RelPath, names: &BTreeMap<Box<[u8]>, Doubt>) {
        for (name, doubt) in names {
            self.pass.doubt_other_names(&path.join(name), None, None, *doubt);
        }
        let Some((parent, name)) = path.split() else {
            return self.pass.problem(path, "the root folder cannot be opened".into());
        };
        // This pass lists the parent anyway: thousands of removed names would each cost a look of their own.
        if self.pass.dirty.folder(&parent).is_some_and(|doubt| doubt.extent != Extent::Names) {
            return;
        }
        self.pass.queue.push(Task::Folder(FolderTask {
            path: parent,
            parent: None,
            extent: Extent::Names,
            names: BTreeMap::from([(name.into(), Doubt::subtree(clock::now()))]),
            made: None,
            attributes_agreed: true,
        }));
    }

    fn visit(&mut self, task: &mut FolderTask) -> Result<(), Errno> {
        let pair = self.pass.pair;
        let Some(sides) = self.open_both(task)? else { return Ok(()) };
        let id = match self.close_off(task, &sides) {
            Ok(id) => id,
            Err(error) => {
                sides.staged.into_iter().for_each(|staged| staged.discard(&pair.replica));
                return Err(error);
            }
        };
        let Sides { source, replica, staged } = sides;
        let watching = self.watch(task, id);
        if watching == Watching::Unsure {
            self.pass.shared().outcome.again.insert_extent(task.path.clone(), Extent::Listing);
        }
        let ids = pair.ids(source.as_fd(), replica.as_ref().map(AsFd::as_fd))?;
        let just_watched = matches!(watching, Watching::Now | Watching::Unsure);
        if just_watched && task.extent != Extent::Tree && !task.is_mount(ids, self.pass) {
            task.extent = Extent::Tree;
        }
        if task.made.is_some() {
            self.pass.forget_namesake(&task.path, ids);
        } else if let Some(replica) = &replica {
            let (known, both) = ((&task.path, task.attributes_agreed), (source.as_fd(), replica.as_fd()));
            self.pass.meet(task.parent.as_deref(), known, both, ids)?;
        }
        let node = Node::new(task.path.clone(), (source, ids), replica, task.parent.clone());
        let node = node.with(task.made.is_some(), task.attributes_agreed).just_watched(just_watched);
        let node = Arc::new(if pair.two_way.is_some() { node.with_found(pair)? } else { node });
        if let Some(parent) = &node.parent {
            parent.hold();
        }
        let mut found = Found::default();
        let names = std::mem::take(&mut task.names);
        let large = match task.extent {
            Extent::Names => self.look_at_names(&node, names, &mut found),
            extent => self.look_at_all(&node, extent, names, &mut found),
        };
        if let Some(large) = large {
            if let Some(folder) = staged {
                self.publish_folder(Unseen::empty(&node, folder), Ok(()));
            }
            self.share_out(&node, large);
            complete(self.pass, node, &mut self.totals);
            return Ok(());
        }
        let Found { jobs, databases, .. } = found;
        for (base, in_doubt) in databases {
            node.hold();
            self.pass.queue.push(Task::Database(node.clone(), base, in_doubt));
        }
        if let Some(folder) = staged {
            if self.is_worth_building(&jobs) {
                self.build(node, folder, jobs);
                return Ok(());
            }
            self.publish_folder(Unseen::empty(&node, folder), Ok(()));
        }
        if jobs.len() <= CHUNK {
            self.files(node, jobs);
            return Ok(());
        }
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            node.hold();
            self.pass.queue.push(Task::Files(node.clone(), jobs.by_ref().take(CHUNK).collect()));
        }
        complete(self.pass, node, &mut self.totals);
        Ok(())
    }

    /// Nothing where the replica's could not be made, which has been said.
    fn open_both(&self, task: &FolderTask) -> Result<Option<Sides>, Errno> {
        let pair = self.pass.pair;
        let both = |source, replica| Ok(Some(Sides { source, replica, staged: None }));
        let (Some(parent), Some((_, name))) = (&task.parent, task.path.split()) else {
            let source = pair.source.open_folder(&task.path)?;
            return match pair.replica.open_folder(&task.path) {
                Err(Errno::NOENT) if pair.options.dry_run && task.path.is_root() => both(source, None),
                done => both(source, Some(done?)),
            };
        };
        let source = open_child(parent.source.as_fd(), name)?;
        if task.made == Some(Made::Unseen) {
            let staged = pair.stage.unseen(&pair.replica);
            let opened = staged.and_then(|staged| Ok((open_child(staged.folder(), staged.name())?, staged)));
            return match opened {
                Ok((replica, staged)) => Ok(Some(Sides { source, replica: Some(replica), staged: Some(staged) })),
                Err(error) => {
                    self.pass.failed(&task.path, "cannot create the directory", error);
                    Ok(None)
                }
            };
        }
        let Some(folder) = &parent.replica else { return both(source, None) };
        match open_child(folder.as_fd(), name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if pair.options.dry_run => both(source, None),
            Err(Errno::ACCESS) if !pair.options.dry_run => {
                self.pass.note_gap();
                both(source, Some(crate::fs::metadata::open_for_change(folder.as_fd(), name, Kind::Directory)?))
            }
            done => both(source, Some(done?)),
        }
    }

    /// Makes the replica's folder no more open than the source's. Returns the identity of the source's.
    fn close_off(&self, task: &mut FolderTask, sides: &Sides) -> Result<InodeId, Errno> {
        let pair = self.pass.pair;
        let stat = pair.source.stat(sides.source.as_fd())?;
        if task.made.is_some() {
            self.pass.made_anew(&task.path);
        } else if let Some(replica) = &sides.replica {
            self.pass.say_closing(replica, &task.path, &stat)?;
        }
        if let Some(replica) = &sides.replica
            && !pair.options.dry_run
            && pair.two_way.is_none()
            && trust::close_off(replica.as_fd(), &stat, &pair.rights)?
        {
            task.attributes_agreed = false;
        }
        Ok(stat.id())
    }

    /// Watches the folder before it is listed.
    fn watch(&self, task: &FolderTask, id: InodeId) -> Watching {
        let pair = self.pass.pair;
        let Some(watches) = &pair.watches else { return Watching::Since };
        match watches.ensure(&task.path, id) {
            Ok(watching) => watching,
            Err(NoWatch::Gone) => Watching::Not,
            Err(error) => {
                if pair.said.first(&format!("no watch: {error}")) {
                    let shown = pair.shown_source(&task.path);
                    let advice = if matches!(error, NoWatch::Limit) { limit_advice(pair) } else { String::new() };
                    pair.log.warn(format_args!(
                        "Cannot watch {shown}: {error}{advice}; folders without a watch are looked at every 10 s"
                    ));
                }
                Watching::Not
            }
        }
    }
}

/// What a person can do about the limit on watches.
fn limit_advice(pair: &Pair) -> String {
    let needed = count::folders(pair.source.path());
    let limit = count::watch_limit();
    let enough = status::enough(needed, limit);
    let limit = limit.map_or_else(|| "unknown".into(), |limit| limit.to_string());
    format!(
        " (it is {limit}, this source alone needs {needed}): raise it with `sudo sysctl fs.inotify.max_user_watches={enough}`"
    )
}

impl FolderTask {
    /// Whether the folder is where another filesystem is mounted that is not to be entered.
    fn is_mount(&self, ids: Ids, pass: &Pass) -> bool {
        let differs = |of_parent: Ids| {
            let replicas = of_parent.replica.zip(ids.replica);
            of_parent.source.dev != ids.source.dev || replicas.is_some_and(|(above, own)| above.dev != own.dev)
        };
        pass.pair.options.one_file_system && self.parent.as_ref().is_some_and(|parent| differs(parent.ids))
    }
}

/// A task that does one job in a folder outside the walk.
///
/// # Errors
/// As of opening the folder on both sides.
pub fn single(pass: &Pass, folder: &RelPath, job: Job) -> Result<Task, Errno> {
    Ok(Task::Files(folders::open(pass, folder)?, vec![job]))
}
