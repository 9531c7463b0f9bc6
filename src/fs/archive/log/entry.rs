//! Owns the bytes of the log's entries, each with a sum. Reading takes any bytes and never panics.

use crate::fs::archive::{folder_of, key};
use crate::tree::codec::{put_bytes, sum, take_bytes, take_counted};
use crate::tree::entry::InodeId;
use crate::tree::intent::Intent;
use crate::tree::record::{Agreed, Record};

#[derive(Debug)]
pub enum Entry {
    /// In a folder, a name, and what is agreed of it.
    Agreed(InodeId, Box<[u8]>, Option<Agreed>),
    Intent(Intent),
    /// What was intended of this name has not come true.
    Withdrawn(InodeId, Box<[u8]>),
}

pub fn put_agreed(out: &mut Vec<u8>, folder: InodeId, name: &[u8], change: &Option<Agreed>) {
    let mut entry = key(folder).to_vec();
    match change {
        None => {
            entry.push(0);
            entry.extend_from_slice(name);
        }
        Some(agreed) => {
            entry.push(1);
            let mut record = Record::default();
            record.set(name, *agreed);
            entry.extend_from_slice(&record.encode());
        }
    }
    put_summed(out, &entry);
}

pub fn put_intent(out: &mut Vec<u8>, intent: &Intent) {
    let mut entry = key(intent.folder).to_vec();
    entry.push(2);
    entry.extend_from_slice(&intent.encode());
    put_summed(out, &entry);
}

pub fn put_withdrawn(out: &mut Vec<u8>, folder: InodeId, name: &[u8]) {
    let mut entry = key(folder).to_vec();
    entry.push(3);
    entry.extend_from_slice(name);
    put_summed(out, &entry);
}

pub fn take_entry(mut bytes: &[u8]) -> Option<Entry> {
    let folder = folder_of(take_bytes(&mut bytes, 16)?.try_into().ok()?);
    match take_bytes(&mut bytes, 1)? {
        [0] => Some(Entry::Agreed(folder, bytes.into(), None)),
        [1] => {
            let record = Record::decode(bytes)?;
            let (name, agreed) = record.iter().next()?;
            Some(Entry::Agreed(folder, name.into(), Some(*agreed)))
        }
        [2] => Intent::decode(folder, bytes).map(Entry::Intent),
        [3] => Some(Entry::Withdrawn(folder, bytes.into())),
        _ => None,
    }
}

pub fn put_summed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_bytes(out, bytes);
    out.extend_from_slice(&sum(bytes).to_be_bytes());
}

pub fn take_summed<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let inner = take_counted(bytes)?;
    (take_bytes(bytes, 8)? == sum(inner).to_be_bytes()).then_some(inner)
}
