//! The schedule of a replica's heartbeats and readings of the log. No promise depends on it: a
//! heartbeat too many costs work, one too late costs the lease, and neither leads to a stale
//! answer.

use std::time::Duration;

use super::protocol::{Fence, Moment};
use super::replica_config::ReplicaConfig;

/// The calls that are in flight and those that are due.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Schedule {
    is_standalone: bool,
    /// When the last heartbeat was sent, and whether it is still unanswered.
    last_heartbeat: Option<(Moment, bool)>,
    /// The applied place that the last heartbeat reported.
    last_reported: Option<Fence>,
    /// A heartbeat is requested before the next regular one.
    heartbeat_requested: bool,
    /// Since when an entry is missing.
    behind_since: Option<Moment>,
    reading_since: Option<Moment>,
}

impl Schedule {
    /// The schedule of a fleet of one, which sends nothing.
    pub(super) fn standalone() -> Self {
        Self { is_standalone: true, ..Self::default() }
    }

    pub(super) fn request_heartbeat(&mut self) {
        self.heartbeat_requested = true;
    }

    /// Notes the reply to the heartbeat of `sent`.
    pub(super) fn on_heartbeat_reply(&mut self, sent: Moment) {
        if let Some((last, is_unanswered)) = &mut self.last_heartbeat {
            *is_unanswered &= *last != sent;
        }
    }

    /// Notes the reply to a reading of the log. Entries that are still missing after a page with
    /// new ones are read at once, others after `gap_patience`.
    pub(super) fn on_log_reply(&mut self, has_progressed: bool) {
        self.reading_since = None;
        self.behind_since = has_progressed.then(Moment::default);
    }

    /// Takes the state of the replica at `now`.
    pub(super) fn observe(&mut self, now: Moment, applied: Option<Fence>, is_behind: bool) {
        self.heartbeat_requested |= applied != self.last_reported;
        self.behind_since = is_behind.then(|| self.behind_since.unwrap_or(now));
    }

    pub(super) fn is_heartbeat_due(&self, now: Moment, config: &ReplicaConfig) -> bool {
        now >= self.next_heartbeat(config)
    }

    pub(super) fn on_heartbeat_sent(&mut self, now: Moment, applied: Option<Fence>) {
        self.last_heartbeat = Some((now, true));
        self.last_reported = applied;
        self.heartbeat_requested = false;
    }

    pub(super) fn is_log_read_due(&self, now: Moment, config: &ReplicaConfig) -> bool {
        now >= self.next_log_read(config)
    }

    pub(super) fn on_log_read_sent(&mut self, now: Moment) {
        self.reading_since = Some(now);
    }

    pub(super) fn next_wake(&self, config: &ReplicaConfig) -> Moment {
        self.next_heartbeat(config).min(self.next_log_read(config))
    }

    /// One heartbeat is in flight at a time, unless its reply is overdue.
    fn next_heartbeat(&self, config: &ReplicaConfig) -> Moment {
        match self.last_heartbeat {
            _ if self.is_standalone => Moment::NEVER,
            None => Moment::default(),
            Some((sent, true)) => sent.after(config.retry_interval),
            Some((sent, false)) if self.heartbeat_requested => sent.after(config.heartbeat_spacing),
            Some((sent, false)) => sent.after(
                config.heartbeat_interval.saturating_sub(since_aligned_heartbeat(sent, config)),
            ),
        }
    }

    fn next_log_read(&self, config: &ReplicaConfig) -> Moment {
        let Some(since) = self.behind_since else { return Moment::NEVER };
        self.reading_since.map_or_else(
            || since.after(config.gap_patience),
            |reading| reading.after(config.retry_interval),
        )
    }
}

/// The time from the last aligned heartbeat to `sent`.
fn since_aligned_heartbeat(sent: Moment, config: &ReplicaConfig) -> Duration {
    let interval = config.heartbeat_interval.as_nanos();
    match config.heartbeat_origin {
        Some(origin) if interval > 0 => {
            let elapsed = sent.since(origin).as_nanos() % interval;
            Duration::from_nanos(u64::try_from(elapsed).unwrap_or_default())
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::MemberName;
    use super::*;

    #[test]
    fn heartbeats_fall_together_again_whenever_one_came_in_between() {
        let at = |millis| Moment::from_origin(Duration::from_millis(millis));
        let lease = Duration::from_secs(4);
        let config = ReplicaConfig {
            heartbeat_origin: Some(at(100)),
            ..ReplicaConfig::new(MemberName("a".into()), lease)
        };
        let next = |sent| {
            Schedule { last_heartbeat: Some((at(sent), false)), ..Schedule::default() }
                .next_heartbeat(&config)
        };
        assert_eq!([next(100), next(101), next(700), next(1_099)], [at(1_100); 4]);
        assert_eq!(next(1_100), at(2_100));
        assert_eq!(next(50), at(1_050), "before the first time, its own");
    }
}
