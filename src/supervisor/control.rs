//! Stop and reload requests for a running process: by signals, or from the program itself.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// Stop requests that are held: the first begins a drain, the second ends it.
const STOPS_MAX: usize = 2;

/// The stop and reload requests of a running process.
#[derive(Debug)]
pub struct Control {
    stops: mpsc::Receiver<()>,
    reload: Arc<Notify>,
    /// Owns the task that receives signals.
    listener: JoinSet<()>,
}

impl Control {
    /// Stops on SIGTERM and SIGINT. To be called before a port is open, so that no signal is lost.
    pub fn by_signals() -> io::Result<Self> {
        Self::listening(None)
    }

    /// The same, and SIGHUP reloads.
    pub fn by_signals_with_reload() -> io::Result<Self> {
        Self::listening(Some(signal(SignalKind::hangup())?))
    }

    /// Stops at each message of the sender.
    pub fn by_sender() -> (mpsc::Sender<()>, Self) {
        let (sender, stops) = mpsc::channel(STOPS_MAX);
        let control = Self { stops, reload: Arc::default(), listener: JoinSet::new() };
        (sender, control)
    }

    fn listening(mut hangup: Option<Signal>) -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, mut control) = Self::by_sender();
        let reload = Arc::clone(&control.reload);
        control.listener.spawn(async move {
            loop {
                tokio::select! {
                    () = received(Some(&mut terminate)) => drop(sender.try_send(())),
                    () = received(Some(&mut interrupt)) => drop(sender.try_send(())),
                    () = received(hangup.as_mut()) => reload.notify_one(),
                }
            }
        });
        Ok(control)
    }

    /// Waits for the next stop request.
    pub async fn stopped(&mut self) {
        if self.stops.recv().await.is_none() {
            // All senders are gone, so no stop request can come.
            std::future::pending::<()>().await;
        }
    }

    /// Is notified at each reload request.
    pub fn reload(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }
}

/// Waits for a signal; for ever where it cannot come.
async fn received(signal: Option<&mut Signal>) {
    let received = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}
