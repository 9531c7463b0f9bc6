//! driftless keeps a replica folder identical to a source folder, in near real time.
//!
//! This page is the architecture: what there is, who may know whom, and which promises hold the parts together. What a
//! user can rely on stands in the README; what one module owns, and what it leaves alone, stands at its head.
//!
//! # The picture
//!
//! ```text
//!              main   cli   config   commands         the person
//!                           |
//!                        service                       when
//!                       /       \
//!                    plan        fs                    what | how
//!                       \       /
//!                         tree                         the words
//! ```
//!
//! [`tree`] is vocabulary: plain data, no I/O, no clock, no log. [`plan`] decides: pure functions that cannot fail and
//! cannot touch a disk. [`fs`] does: system calls, no decisions. `plan` and `fs` do not know one another; [`service`]
//! joins them and owns time. [`cli`], [`config`] and [`commands`] are the person's side, and nobody imports them. A test
//! reads the imports and holds this.
//!
//! # The unit: one folder's listing
//!
//! A pass (`service::pass`) visits folders. For each one:
//!
//! ```text
//! watch it -> list both sides, look up what was last agreed -> decide each name -> do it -> remember what is agreed now
//! ```
//!
//! So memory grows with the folders in work, not with the tree; folders are done in parallel, and one with very many
//! names in slices (`service::pass::large`); and a targeted update and a sweep are the same code over different sets of
//! doubt. Watch first, then list: in this order nothing that is made meanwhile can be missed. A pass is a straight line:
//! renames, the walk, what has moved unheard, links, removals, folders' attributes, disk.
//!
//! # Events are doubt
//!
//! An event says "look at this path again" and nothing more; what to do is decided from the disk. Lost, repeated and
//! reordered events cost time, not correctness. A rename that was heard is a hint: it is carried out only where the disk
//! and the archive both show that the replica's entry is the one that moved, and the place is looked at all the same.
//! A sweep makes such hints by itself (`service::pass::moved`): a new entry whose inode the archive knows under a name that
//! is gone has moved. Nothing tells then why its ctime did, so that a file is compared before it is renamed.
//! [`tree::doubt`] holds the set of doubt, bounded; `service::intake` fills it by two lanes: what is finished and was
//! quiet goes at once, everything else when notify's debouncer has found it quiet, or after the longest delay; what is
//! finished in masses goes at once to the lane that has all the workers. Removals wait for one another, so that many are
//! judged as one. notify's interface is filled by a back end of the program's own ([`fs::inotify`]): in notify's, each
//! removed folder costs a look at all watches, and each watch a wait for its thread.
//!
//! # The archive
//!
//! For each folder of the source, by the folder's identity, so that a renamed tree keeps its records: for each name the
//! stamps of both sides when they were last found equal. A stamp holds the inode's identity and its ctime, which no
//! program can set, so two equal stamps mean that nothing was written; the exceptions are in [`tree::record::Agreed`].
//! It is a cache that proves itself: lost, damaged or of another version it costs one slow sweep. It is written after
//! the disk, so it can be behind, never ahead: a stamp that a power cut has undone fits nothing any more, and a copy's
//! contents were on disk before its name was. What is not sure of that, because others wrote it, is forgotten after a
//! restart of the machine while it is young (`fs::archive::young`).
//!
//! Beside the records it keeps what must not be forgotten by a restart: removals that are held (`service::dispatcher`),
//! how much was removed in the last minute, and what fails (`service::ledger`).
//!
//! # Removals
//!
//! They come last in a pass and are judged together ([`plan::guard`]). What is held stays held until a person releases it
//! or it need not go any more, and counts for what comes later, so that a sweep and many targeted updates come to the same
//! verdict. A release names what it is for. Each doubt carries what asked for it, so that each removal in the log does.
//!
//! # Two lanes, one dispatcher
//!
//! One thread (`service::dispatcher`) owns all state and has one inbox. Passes run in two lanes, one for single files
//! and one for everything else, so that a saved file does not wait behind a sweep or a large copy. The lanes share
//! nothing but claims on paths (`service::claims`), turns for folders' attributes, the archive and the link table. Nobody
//! waits for a claim: what is taken goes back into doubt.
//!
//! # The service manager
//!
//! `service::manager` says what is so, by sd_notify. Ready means that the watches are in place: `service::ahead` sets them
//! before the first pass comes to the folders, and a watch that is ahead counts for nothing until a pass has taken it
//! over ([`fs::watch`]), so that what a pass concludes is the same with and without a manager. The watchdog is fed by the
//! dispatcher and for as long as each lane that works, and each look at the roots, gives signs of life ([`fs::pulse`],
//! `service::vigil`).
//!
//! # Applying
//!
//! [`fs::root::Root`] turns a tree path into a system call, beneath a descriptor and through no symbolic link. A file is
//! built unseen ([`fs::stage`]): without a name in the target's folder for a new name, in the reserved folder of its
//! filesystem ([`fs::volume`]) for one that exists; it gets all its attributes, is brought to disk together with others,
//! and is then published in one step, if the name still shows what the plan was made from. A folder that the replica does not have is built whole in the
//! reserved folder, with its files under their own names, and one rename publishes them all (`service::pass::unseen`),
//! unless it holds much. What is to be brought to disk goes there in batches, by a thread of its own, while the workers
//! build the next (`service::pass::publisher`).
//!
//! A file's contents are a reflink of the source's, else one of the replica's old version into which only what differs is
//! written ([`fs::patch`]), else a copy. Where no two files can share blocks, nothing less is safe: ext4's only other way is
//! to exchange extents between two files, which is not one step for several of them, nor one with the attributes.
//!
//! # The past
//!
//! Where what is lost is kept, each change is said in the journal before it is made ([`tree::history`], [`fs::history`];
//! `service::pass::keeping`): what was there, never what comes. The state of any time is the tree that there is now, taken
//! back line by line; nothing has to be read of the past to write the present. What is replaced gets another name in the
//! folder of versions by a link before its name is given away, and what is removed goes there by a rename, so that it keeps
//! its inode with all that this has, and two names of one file are told by that later on; where the filesystem is another one,
//! it is copied exactly ([`fs::exact`]). Lines are brought to disk in one piece with others before the first of their changes
//! is made, so that after a power cut there is nothing of which nothing is told; a line whose change was not made shows by what
//! is not kept where it says, or is made void by the next start, which looks at the renames (`fs::history::interrupted`).
//! A pass says what a folder was when it is about to change its list for the first time, since the times of folders are set
//! once more at its end. Where nothing is kept, an older history is told in the same place, right before the first change, that
//! it misses what comes ([`fs::history::gap`]).
//!
//! # Two ways
//!
//! Where both folders are worked in, a pass goes one way all the same: each of the two directions is a [`service::pair::Pair`] of
//! its own, with its own watches, doubt and holds (`service::dispatcher::way`), and one pass of each kind runs at a time. What
//! [`plan::two_way`] finds to be for the other direction is handed to it (`service::pass::both_ways`). There is one record of a
//! folder for both directions, under the identities of both of its sides ([`service::agreements`]): a folder that was made
//! anew on one side has agreed to nothing, so that nothing in it is taken for removed. There the archive is the agreement,
//! and not a cache: both disks have what it speaks of before it is committed, and where a root is another folder than
//! before, all of it is forgotten. Then the sides are merged.
//!
//! What was made equal since the last commit is written to a log beside the archive at once (`fs::archive::log`), and what is
//! about to get its name before it has it ([`tree::intent`]; the next start looks whether it has): a process that is killed
//! takes none of it for new. What is removed is forgotten before: a folder can come back at any moment from where a side has
//! moved it. Where one side has put a folder in the place of another, what was agreed of the old one says what it has done
//! (`service::pass::meeting`). After the machine has gone down that log is not read:
//! either disk may lack what it speaks of, and what one side has lost would be removed from the other.
//!
//! A conflict is resolved by the direction that leads to the version that yields: this gets a second name by a link, and the
//! other version takes its place, so that the name is never missing. A folder that is gone from one side goes from the other
//! only if all below it is as agreed; else those folders stay that hold what is not, and are made once more on the side
//! where they are gone, with what was agreed of them, by which the rest goes name by name.
//!
//! Without what was agreed nobody can tell what is new, so that a dry run goes by a copy of the archive in memory. Several pairs
//! in one file are several services, each with a process of its own (`commands::several`): what one waits for keeps no other
//! one waiting, and what each has (its log lines, its socket, its archive, its second wall) is as if it were alone.
//!
//! Between the look and the deed others go on writing. What goes is moved to the reserved folder entry by entry, looked at
//! there, and removed only if it is as agreed ([`fs::remove`]); what is replaced comes out by an exchange and is looked at
//! too; a folder is emptied in that way before anything takes its place. What is not as expected goes back into its place,
//! and into doubt.
//!
//! # Decay
//!
//! Beside the records, the archive keeps digests of contents (`fs::archive::digests`), by the inode of the source's file, each
//! with a [`tree::digest::Seal`] of both sides: what a file showed when its contents were those. A seal that is whole proves that
//! nobody has written, so that other contents are the disk's doing; [`plan::decay`] has the table. Not all writes show: one
//! through a mapping moves no time as long as its page waits in memory. So a seal is taken where reading has brought the file to
//! disk first (O_DIRECT does), or where the file has rested for longer than anything waits; in a filesystem that is in memory,
//! or whose change times are not the kernel's, none counts, and where whole seconds are kept, none is taken before the second is
//! over. `service::scrub` walks both sides folder by folder and reads at a pace ([`fs::digest`]); `service::digests` is what
//! passes ask before they copy contents that differ.
//!
//! # What does not rest
//!
//! A file that changes while it is read goes into `service::restless`, which says when it is looked at again and when it
//! has waited long enough to be taken as it is; nothing waits in a worker. The files of an SQLite database are read in one
//! window and published in an order, both of which [`plan::database`] decides and `service::pass::databases` carries out.
//!
//! # What fails
//!
//! A failure is one of three things. *The path's*: a problem, logged, kept in `service::ledger` and tried again, while
//! everything else goes on. *The replica's as a whole* (`service::condition`: full, over quota, read-only): what is missing
//! is put off and is no problem of any path; `service::dispatcher` says it once, tries again with growing pauses, and says
//! when it is over. *Common* to many paths most likely (a failing disk, a limit): problems of their paths, with a
//! log that names the first of them only. ENOENT, ENOTDIR and ELOOP are none of these: the disk is not what it was when
//! it was listed, and is looked at again. Calls that a kernel or a filesystem does not have are replaced by older ones.
//!
//! # Which folders these are
//!
//! `service::places` remembers, as facts in the archive, the identity ([`tree::identity`]) of both roots and of what is
//! mounted below them. Where a root is another one, nothing is done with the pair at all; `service::dispatcher` has it
//! looked for and everything opened anew when it is back, for which each order carries the pair, and no lane keeps it. A lane
//! looks whether both roots are there before it begins a pass; a pass asks for the mounts when it begins and again before it
//! removes anything. The table of mounts wakes the dispatcher, which itself asks no disk: `service::look` does, in a thread of its
//! own, so that a disk that does not answer keeps nobody waiting but those who work on it.
//! A root has a name besides its path: they differ where a person has named it by its filesystem ([`tree::tag`]). What is
//! kept of the pair goes by the names; each time that the roots are opened anew, [`fs::located`] says where they are.
//!
//! # Settings that change
//!
//! What a person can change while the service runs is in `service::rules`: a reload puts a new set in force, and a pass
//! goes by the set that it began with. To exclude less than before means that events were not heard, and is treated as
//! that: a sweep follows, and until it has been everywhere nothing is taken on trust. `config` reads; the dispatcher is
//! handed a closure for it, and applies what comes back.
//!
//! # Two walls
//!
//! Others may write in both folders while the program runs as root. The first wall is `Root`: nothing but descriptors
//! and single names reaches the kernel. The second is Landlock ([`fs::sandbox`]): the threads that run passes can open
//! nothing but the two roots. The dispatcher, the looks, the log and the control socket have threads outside of it, since they
//! open files anew. Neither helps where an inode has names on both sides of the wall, or where somebody has it open:
//! [`fs::trust`] says which entry of the replica may be changed where it is; any other is built anew.
//!
//! # What it says of itself
//!
//! The dispatcher fills in one [`service::status::Status`]; the screen, the JSON and the metrics are made from that and nothing
//! else, and who asks for it asks the dispatcher. Latency is the exception, since passes measure it: doubt carries when its
//! first event was read, and `service::pass::heard` adds to the histogram of `service::latency` what has arrived.
//!
//! Each line of the log goes to one thread ([`service::log`]), which writes the file and hands the console's share to another:
//! a terminal or a pipe that takes nothing must not keep the service waiting, which would wait for its log. Of sweeps,
//! `service::onlooker` tells whoever wants to look on; the progress bar (`commands::progress`) is one, and reads how far it is
//! from [`fs::pulse`]. The service knows no terminal: a write to the console runs in what the bar has put around it.
//!
//! # What is absent on purpose
//!
//! - No `unsafe`, and no path string that reaches the kernel for anything inside the roots, but for setting watches,
//!   which read nothing: inotify takes paths alone.
//! - No recursion over trees: a tree may be deeper than a stack.
//! - No third state between "known" and "absent" that is acted on: what could not be read is neither removed nor
//!   overwritten.
//! - No thread that wakes by the clock while there is nothing to do: the debouncer, which ticks, is there only while
//!   something waits. The metrics file is asked for by the person, signs of life by a watchdog.

pub mod cli;
pub mod commands;
pub mod config;
pub mod fs;
pub mod plan;
pub mod service;
pub mod tree;
