//! Owns the work that a pass has left: the last found is done first, so that few folders are open at a time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::databases::InDoubt;
use super::files::Job;
use super::folders::Node;
use super::large::Slice;
use super::walk::FolderTask;

pub enum Task {
    Folder(FolderTask),
    Files(Arc<Node>, Vec<Job>),
    Slice(Arc<Node>, Slice),
    Database(Arc<Node>, Box<[u8]>, InDoubt),
}

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    busy: usize,
}

/// What a worker that asked for work gets.
pub enum Next {
    Task(Task),
    /// Nothing now, but others still work and may find more.
    Idle,
    Done,
}

impl Queue {
    pub fn push(&self, task: Task) {
        self.lock().tasks.push(task);
        self.changed.notify_one();
    }

    /// Whether one thread is enough.
    pub fn is_small(&self) -> bool {
        let state = self.lock();
        match state.tasks.as_slice() {
            [] => true,
            [Task::Folder(task)] => task.is_small(),
            _ => false,
        }
    }

    /// Takes a task. The caller calls `finished` after it.
    pub fn take(&self) -> Next {
        let mut state = self.lock();
        match state.tasks.pop() {
            Some(task) => {
                state.busy += 1;
                Next::Task(task)
            }
            None if state.busy > 0 => Next::Idle,
            None => Next::Done,
        }
    }

    pub fn finished(&self) {
        let mut state = self.lock();
        state.busy -= 1;
        if state.busy == 0 && state.tasks.is_empty() {
            self.changed.notify_all();
        }
    }

    /// Waits until there may be a task, or no one works any more.
    pub fn wait(&self) {
        let state = self.lock();
        let idle = |state: &mut State| state.tasks.is_empty() && state.busy > 0;
        drop(self.changed.wait_while(state, idle).unwrap_or_else(|e| e.into_inner()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}
