//! The queue of pub/sub messages between the connections and the driver. It is bounded in messages
//! and in bytes, and has a gap mark for messages that did not fit or were lost.
//!
//! The gap mark is set before any later message is queued, and checked before any message is taken
//! out, so that the driver knows of a missing message before it handles the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::resp_frames::ReplyExcess;

/// The most messages that wait for the driver.
const MESSAGES_MAX: usize = 2_048;
/// The most bytes of these messages.
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most bytes of one message. A longer published entry is read from the log; a longer hint
/// means `all`, since no log has it.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// One message of pub/sub.
#[derive(Debug)]
pub(super) struct PushMessage {
    pub(super) channel: Vec<u8>,
    /// `None` for a message that is too long.
    pub(super) payload: Option<Vec<u8>>,
}

impl PushMessage {
    fn bytes(&self) -> usize {
        self.channel.len() + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// The connections' end of the queue.
#[derive(Debug, Clone)]
pub(super) struct PushSender {
    messages: mpsc::Sender<PushMessage>,
    state: Arc<PushGap>,
}

/// The driver's end of the queue.
#[derive(Debug)]
pub(super) struct PushReceiver {
    messages: mpsc::Receiver<PushMessage>,
    state: Arc<PushGap>,
}

#[derive(Debug, Default)]
struct PushGap {
    has_gap: AtomicBool,
    noticed: Notify,
    /// How many messages did not fit.
    overflowed: AtomicU64,
    /// How many bytes are in the queue.
    queued_bytes: AtomicUsize,
    /// The last excess of a server, for which its connection was closed.
    excess: Mutex<Option<ReplyExcess>>,
}

/// Creates a queue and returns its two ends.
pub(super) fn push_channel() -> (PushSender, PushReceiver) {
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    let gap = Arc::<PushGap>::default();
    (
        PushSender { messages: sender, state: Arc::clone(&gap) },
        PushReceiver { messages, state: gap },
    )
}

impl PushSender {
    /// Takes a push of one server. A push that says that the connection ended closes the
    /// connections; pushes after they were closed are dropped.
    pub(super) fn accept(&self, push: PushInfo, closed: &CancellationToken) {
        if closed.is_cancelled() {
            return;
        }
        match push.kind {
            // The bus never unsubscribes from a slot's channels, so the server did: the slot has
            // moved to another server. The client library takes this push for the reply to a
            // pending call, and every later reply for that of the call before.
            PushKind::Disconnection | PushKind::SUnsubscribe => {
                self.state.mark_gap();
                closed.cancel();
                // Once more, because a message of the closed connections may have been handled in
                // between.
                self.state.mark_gap();
            }
            PushKind::Message | PushKind::SMessage => self.enqueue(push),
            _ => {}
        }
    }

    /// Sets the gap mark: a message may have been missed.
    pub(super) fn mark_gap(&self) {
        self.state.mark_gap();
    }

    /// Records the excess of a server, for which its connection was closed. If the connection had
    /// subscriptions, messages may be missing.
    pub(super) fn on_reply_excess(&self, cause: ReplyExcess, has_pubsub: bool) {
        *self.state.excess.lock() = Some(cause);
        if has_pubsub {
            self.state.mark_gap();
        } else {
            self.state.noticed.notify_one();
        }
    }

    fn enqueue(&self, push: PushInfo) {
        let mut data = push.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (data.next(), data.next())
        else {
            return self.state.mark_gap();
        };
        let payload = Some(payload).filter(|payload| payload.len() <= MESSAGE_BYTES_MAX);
        let message = PushMessage { channel, payload };
        let bytes = message.bytes();
        let queued = self.state.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if queued > QUEUED_BYTES_MAX || self.messages.try_send(message).is_err() {
            self.state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.state.overflowed.fetch_add(1, Ordering::Relaxed);
            self.state.mark_gap();
        }
    }
}

impl PushGap {
    fn mark_gap(&self) {
        self.has_gap.store(true, Ordering::Release);
        self.noticed.notify_one();
    }

    fn on_taken(&self, message: &PushMessage) {
        self.queued_bytes.fetch_sub(message.bytes(), Ordering::Relaxed);
    }
}

impl PushReceiver {
    /// Waits for the next message; `None` where the gap mark or an excess is to be checked. Call
    /// [`Self::take_gap`] before you handle a message.
    pub(super) async fn next(&mut self) -> Option<PushMessage> {
        tokio::select! {
            biased;
            () = self.state.noticed.notified() => None,
            message = self.messages.recv() => {
                message.inspect(|message| self.state.on_taken(message))
            }
        }
    }

    /// The next message, if one is queued.
    pub(super) fn try_next(&mut self) -> Option<PushMessage> {
        self.messages.try_recv().ok().inspect(|message| self.state.on_taken(message))
    }

    /// Whether the gap mark was set since the last call; clears it.
    pub(super) fn take_gap(&self) -> bool {
        self.state.has_gap.swap(false, Ordering::AcqRel)
    }

    /// How many messages did not fit since the last call.
    pub(super) fn take_overflowed(&self) -> u64 {
        self.state.overflowed.swap(0, Ordering::Relaxed)
    }

    /// The excess that closed a connection since the last call.
    pub(super) fn take_reply_excess(&self) -> Option<ReplyExcess> {
        self.state.excess.lock().take()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> PushInfo {
        let data = vec![Value::BulkString(b"news".to_vec()), Value::BulkString(payload.to_vec())];
        PushInfo { kind: PushKind::Message, data }
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_says_so_before_anything_later_is_taken() {
        let (sender, mut receiver) = push_channel();
        let alive = CancellationToken::new();
        (0..=MESSAGES_MAX).for_each(|_| sender.accept(message(b"1"), &alive));
        assert!(receiver.next().await.is_none() && receiver.take_gap() && !receiver.take_gap());
        assert_eq!((receiver.take_overflowed(), receiver.take_overflowed()), (1, 0));
        assert_eq!(receiver.next().await.unwrap().payload.unwrap(), b"1");
    }

    #[tokio::test]
    async fn long_messages_fill_the_queue_by_their_bytes() {
        let (sender, mut receiver) = push_channel();
        let alive = CancellationToken::new();
        let long = vec![b'1'; MESSAGE_BYTES_MAX];
        (0..MESSAGES_MAX).for_each(|_| sender.accept(message(&long), &alive));
        let queued = std::iter::from_fn(|| receiver.try_next()).count();
        assert!(queued > 0 && queued * long.len() <= QUEUED_BYTES_MAX, "{queued}");
        assert!(receiver.take_gap() && receiver.take_overflowed() > 0);
        sender.accept(message(&long), &alive);
        assert!(
            receiver.try_next().is_some() && !receiver.take_gap(),
            "what was taken leaves room"
        );
    }

    #[tokio::test]
    async fn what_ends_a_connection_is_a_gap_only_where_there_was_news() {
        let (sender, mut receiver) = push_channel();
        for has_pubsub in [false, true] {
            sender.on_reply_excess(ReplyExcess::Unsolicited, has_pubsub);
            assert!(receiver.next().await.is_none(), "the driver looks");
            assert_eq!(
                (receiver.take_reply_excess(), receiver.take_gap()),
                (Some(ReplyExcess::Unsolicited), has_pubsub)
            );
        }
    }

    #[tokio::test]
    async fn an_end_is_a_gap_and_what_is_too_long_comes_without_its_payload() {
        let (sender, mut receiver) = push_channel();
        let ends = CancellationToken::new();
        sender.accept(message(&vec![b'1'; MESSAGE_BYTES_MAX + 1]), &ends);
        assert!(
            receiver.try_next().unwrap().payload.is_none()
                && !receiver.take_gap()
                && !ends.is_cancelled()
        );
        sender.accept(PushInfo { kind: PushKind::Disconnection, data: vec![] }, &ends);
        assert!(receiver.take_gap() && ends.is_cancelled());
    }
}
