//! What the random operations work on: the random numbers, what there is to choose from, and the helper for maps.
//!
//! No model of the tree is kept: what is there is listed now and then, and whatever has gone since is refused by the disk.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Work {
    /// What was done, the newest last.
    pub log: Vec<String>,
    random: u64,
    pub source: PathBuf,
    pub outside: PathBuf,
    pub parked: Vec<PathBuf>,
    /// What there was when it was last listed, folders first.
    pub folders: Vec<PathBuf>,
    pub others: Vec<PathBuf>,
    mapper: Option<Child>,
}

impl Work {
    pub fn new(seed: u64, source: &Path, outside: &Path) -> Self {
        fs::create_dir_all(outside).expect("mkdir");
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (source, outside) = (source.to_owned(), outside.to_owned());
        let mut work = Self {
            log: Vec::new(),
            random,
            source,
            outside,
            parked: Vec::new(),
            folders: Vec::new(),
            others: Vec::new(),
            mapper: None,
        };
        work.list();
        work
    }

    /// A number below `end`, of a xorshift generator.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % end.max(1)
    }

    /// True once in `n`.
    pub fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn list(&mut self) {
        let all = walkdir::WalkDir::new(&self.source).sort_by_file_name().into_iter();
        let is_reserved = |entry: &walkdir::DirEntry| entry.depth() == 1 && entry.file_name() == ".driftless";
        let all = all.filter_entry(move |entry| !is_reserved(entry)).flatten();
        let (folders, others): (Vec<_>, Vec<_>) = all.partition(|entry| entry.file_type().is_dir());
        self.folders = folders.into_iter().map(walkdir::DirEntry::into_path).collect();
        self.others = others.into_iter().map(walkdir::DirEntry::into_path).collect();
    }

    pub fn one_of(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    pub fn any_folder(&mut self) -> PathBuf {
        let at = self.one_of(self.folders.len());
        self.folders[at].clone()
    }

    /// A folder below the root.
    pub fn inner_folder(&mut self) -> io::Result<PathBuf> {
        let at = 1 + self.one_of(self.folders.len().saturating_sub(1));
        self.folders.get(at).cloned().ok_or_else(|| io::Error::other("no folder"))
    }

    pub fn any_other(&mut self) -> io::Result<PathBuf> {
        let at = self.one_of(self.others.len());
        self.others.get(at).cloned().ok_or_else(|| io::Error::other("no file"))
    }

    /// A regular file; what else it hits is refused, so that no FIFO is opened for ever.
    pub fn any_file(&mut self) -> io::Result<PathBuf> {
        let path = self.any_other()?;
        let is_file = fs::symlink_metadata(&path)?.is_file();
        if is_file { Ok(path) } else { Err(io::Error::other("not a file")) }
    }

    pub fn any_entry(&mut self) -> io::Result<PathBuf> {
        if self.chance(3) { self.inner_folder() } else { self.any_other() }
    }

    /// A name in any folder: often a new one, and often one that is taken.
    pub fn any_place(&mut self) -> PathBuf {
        const NAMES: [&str; 16] = [
            "a",
            "b",
            "c",
            "d",
            "e",
            "f",
            "g",
            "file.txt",
            "notes.md",
            "x.tmp",
            "new\nline",
            "-r",
            "é",
            "'q'",
            ".hid",
            "z~",
        ];
        let name = NAMES[self.one_of(NAMES.len())].to_owned();
        let name = if self.chance(3) { format!("{name}{}", self.below(30)) } else { name };
        self.any_folder().join(name)
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let size = match self.below(12) {
            0 => 0,
            1 => 50_000 + self.below(300_000),
            2..5 => 4096,
            _ => 1 + self.below(2000),
        };
        let start = self.below(256);
        (start..start + size).map(|i| (i % 251) as u8).collect()
    }

    /// Writes through a memory map and closes it. Python does it: a map cannot be had without unsafe code.
    pub fn write_through_map(&mut self, path: &Path) -> io::Result<()> {
        const SCRIPT: &str = "
import mmap, sys
for line in sys.stdin:
    try:
        with open(bytes.fromhex(line.strip()), 'r+b') as file, mmap.mmap(file.fileno(), 0) as map:
            map[0] = (map[0] + 1) % 256
        print('done', flush=True)
    except Exception as error:
        print(repr(error), flush=True)
";
        let mapper = match &mut self.mapper {
            Some(mapper) => mapper,
            none => {
                let mut python = Command::new("python3");
                none.insert(python.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
            }
        };
        let hex: String = path.as_os_str().as_encoded_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(mapper.stdin.as_mut().expect("piped"), "{hex}")?;
        let mut answer = String::new();
        BufReader::with_capacity(1, mapper.stdout.as_mut().expect("piped")).read_line(&mut answer)?;
        if answer.trim() == "done" { Ok(()) } else { Err(io::Error::other(answer)) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(mut mapper) = self.mapper.take() {
            let _ = mapper.kill();
            let _ = mapper.wait();
        }
    }
}
