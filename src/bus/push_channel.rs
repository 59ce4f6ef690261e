//! What Redis pushes, on its way to the driver: a queue that is bounded in messages and in bytes,
//! and a mark that something did not fit or was lost.
//!
//! The mark is set before anything that came later is queued, and looked at before anything is
//! taken out: whoever takes a message knows whether something is missing before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::resp_frames::ReplyExcess;

/// Messages that wait for the driver.
const MESSAGES_MAX: usize = 2_048;
/// Their bytes.
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A longer message is left to the log; a longer hint means all, since no log has it.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// One message of pub/sub.
#[derive(Debug)]
pub(super) struct PushMessage {
    pub(super) channel: Vec<u8>,
    /// Nothing of one that is too long.
    pub(super) payload: Option<Vec<u8>>,
}

impl PushMessage {
    fn bytes(&self) -> usize {
        self.channel.len() + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Where connections put what comes.
#[derive(Debug, Clone)]
pub(super) struct PushSender {
    messages: mpsc::Sender<PushMessage>,
    state: Arc<PushGap>,
}

/// Where the driver takes it.
#[derive(Debug)]
pub(super) struct PushReceiver {
    messages: mpsc::Receiver<PushMessage>,
    state: Arc<PushGap>,
}

#[derive(Debug, Default)]
struct PushGap {
    has_gap: AtomicBool,
    noticed: Notify,
    /// Messages that did not fit.
    overflowed: AtomicU64,
    /// Bytes in the queue.
    queued_bytes: AtomicUsize,
    /// What ended a connection lately.
    excess: Mutex<Option<ReplyExcess>>,
}

/// The two ends.
pub(super) fn push_channel() -> (PushSender, PushReceiver) {
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    let gap = Arc::<PushGap>::default();
    (
        PushSender { messages: sender, state: Arc::clone(&gap) },
        PushReceiver { messages, state: gap },
    )
}

impl PushSender {
    /// Takes what one server pushes. Its end ends the connections, and an end ends what it says.
    pub(super) fn accept(&self, push: PushInfo, closed: &CancellationToken) {
        if closed.is_cancelled() {
            return;
        }
        match push.kind {
            // Nobody asks to be unsubscribed from a slot's channels: the slot has gone to another
            // server. The client library takes it for the answer to whatever is out, and every
            // answer after it for one call too late.
            PushKind::Disconnection | PushKind::SUnsubscribe => {
                self.state.mark_gap();
                closed.cancel();
                // Once more, for what was asked in between on connections that had just ended.
                self.state.mark_gap();
            }
            PushKind::Message | PushKind::SMessage => self.enqueue(push),
            _ => {}
        }
    }

    /// Something may have been missed up to now.
    pub(super) fn mark_gap(&self) {
        self.state.mark_gap();
    }

    /// A server sent more than was asked for, so the connection to it has ended. Its news have a
    /// gap, if it had any.
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
    /// The next message. Ask [`Self::take_gap`] before you act on it.
    pub(super) async fn next(&mut self) -> Option<PushMessage> {
        tokio::select! {
            biased;
            () = self.state.noticed.notified() => None,
            message = self.messages.recv() => {
                message.inspect(|message| self.state.on_taken(message))
            }
        }
    }

    /// The next message, if one is there.
    pub(super) fn try_next(&mut self) -> Option<PushMessage> {
        self.messages.try_recv().ok().inspect(|message| self.state.on_taken(message))
    }

    /// Whether something was missed since this was last asked.
    pub(super) fn take_gap(&self) -> bool {
        self.state.has_gap.swap(false, Ordering::AcqRel)
    }

    /// How many messages did not fit since this was last asked.
    pub(super) fn take_overflowed(&self) -> u64 {
        self.state.overflowed.swap(0, Ordering::Relaxed)
    }

    /// What ended a connection since this was last asked.
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
        let (outlet, mut inbox) = push_channel();
        let alive = CancellationToken::new();
        (0..=MESSAGES_MAX).for_each(|_| outlet.accept(message(b"1"), &alive));
        assert!(inbox.next().await.is_none() && inbox.take_gap() && !inbox.take_gap());
        assert_eq!((inbox.take_overflowed(), inbox.take_overflowed()), (1, 0));
        assert_eq!(inbox.next().await.unwrap().payload.unwrap(), b"1");
    }

    #[tokio::test]
    async fn long_messages_fill_the_queue_by_their_bytes() {
        let (outlet, mut inbox) = push_channel();
        let alive = CancellationToken::new();
        let long = vec![b'1'; MESSAGE_BYTES_MAX];
        (0..MESSAGES_MAX).for_each(|_| outlet.accept(message(&long), &alive));
        let queued = std::iter::from_fn(|| inbox.try_next()).count();
        assert!(queued > 0 && queued * long.len() <= QUEUED_BYTES_MAX, "{queued}");
        assert!(inbox.take_gap() && inbox.take_overflowed() > 0);
        outlet.accept(message(&long), &alive);
        assert!(inbox.try_next().is_some() && !inbox.take_gap(), "what was taken leaves room");
    }

    #[tokio::test]
    async fn what_ends_a_connection_is_a_gap_only_where_there_was_news() {
        let (outlet, mut inbox) = push_channel();
        for has_news in [false, true] {
            outlet.on_reply_excess(ReplyExcess::Unsolicited, has_news);
            assert!(inbox.next().await.is_none(), "the driver looks");
            assert_eq!(
                (inbox.take_reply_excess(), inbox.take_gap()),
                (Some(ReplyExcess::Unsolicited), has_news)
            );
        }
    }

    #[tokio::test]
    async fn an_end_is_a_gap_and_what_is_too_long_comes_without_its_payload() {
        let (outlet, mut inbox) = push_channel();
        let ends = CancellationToken::new();
        outlet.accept(message(&vec![b'1'; MESSAGE_BYTES_MAX + 1]), &ends);
        assert!(
            inbox.try_next().unwrap().payload.is_none()
                && !inbox.take_gap()
                && !ends.is_cancelled()
        );
        outlet.accept(PushInfo { kind: PushKind::Disconnection, data: vec![] }, &ends);
        assert!(inbox.take_gap() && ends.is_cancelled());
    }
}
