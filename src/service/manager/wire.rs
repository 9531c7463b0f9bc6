//! Owns the way to the service manager: messages go out in their order, by a thread of its own, because sending waits for
//! a manager that does not read. It knows nothing of what they say.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sd_notify::NotifyState;

use crate::service::log::Log;

/// Messages that may wait for the manager. What comes on top of that is left out.
const QUEUE: usize = 64;
/// How long the last message may take.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub struct Wire {
    queue: Option<Sender<String>>,
    done: Receiver<()>,
}

impl Wire {
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(log: Log) -> io::Result<Self> {
        Self::start_with(move |message| {
            if let Err(error) = sd_notify::notify(&[NotifyState::Custom(message)]) {
                log.debug(format_args!("The service manager cannot be told: {error}"));
            }
        })
    }

    fn start_with(send: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = bounded::<String>(QUEUE);
        let (end, done) = bounded::<()>(0);
        thread::Builder::new().name("manager".into()).spawn(move || {
            messages.iter().for_each(|message| send(&message));
            drop(end);
        })?;
        Ok(Self { queue: Some(queue), done })
    }

    /// Hands a message on; false where there is no room for it.
    pub fn send(&self, message: &[NotifyState]) -> bool {
        let lines: Vec<String> = message.iter().map(ToString::to_string).collect();
        self.queue.as_ref().is_some_and(|queue| queue.try_send(lines.join("\n")).is_ok())
    }

    /// Waits until all has been sent, but not long. Nothing is sent after that.
    pub fn finish(&mut self) {
        drop(self.queue.take());
        let _ = self.done.recv_timeout(LAST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn messages_go_out_in_their_order_and_all_of_them_before_the_end() {
        let (heard, hears) = unbounded();
        let mut wire = Wire::start_with(move |message| drop(heard.send(message.to_string()))).expect("a thread");
        assert!(wire.send(&[NotifyState::Ready, NotifyState::Status("in sync")]));
        assert!(wire.send(&[NotifyState::Stopping]));
        wire.finish();
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), ["READY=1\nSTATUS=in sync", "STOPPING=1"]);
        assert!(!wire.send(&[NotifyState::Watchdog]), "nothing after the end");
    }

    #[test]
    fn manager_that_does_not_read_holds_nobody_up() {
        let (_let_go, held) = bounded::<()>(0);
        let mut wire = Wire::start_with(move |_| held.recv().unwrap_or_default()).expect("a thread");
        let sent = (0..10 * QUEUE).filter(|_| wire.send(&[NotifyState::Watchdog])).count();
        assert!((QUEUE..=QUEUE + 1).contains(&sent), "{sent}");
        wire.finish();
    }
}
