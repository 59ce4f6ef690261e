//! When a sidecar sends its heartbeats and reads the log. Nothing here keeps a promise: a heartbeat
//! too many or too late costs work or the lease, never an answer's truth.

use std::time::Duration;

use super::protocol::{Fence, Moment};
use super::replica_config::ReplicaConfig;

/// What is under way and what is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Schedule {
    is_standalone: bool,
    /// The last heartbeat that was sent, and whether its reply is still out.
    last_heartbeat: Option<(Moment, bool)>,
    /// What the last heartbeat reported.
    last_reported: Option<Fence>,
    /// Something is to be said or learned before the next heartbeat would be due.
    heartbeat_requested: bool,
    /// Since when something that was heard of is missing.
    behind_since: Option<Moment>,
    reading_since: Option<Moment>,
}

impl Schedule {
    /// Of a sidecar that has nobody to talk to.
    pub(super) fn standalone() -> Self {
        Self { is_standalone: true, ..Self::default() }
    }

    pub(super) fn request_heartbeat(&mut self) {
        self.heartbeat_requested = true;
    }

    /// The heartbeat of `sent` was answered.
    pub(super) fn on_heartbeat_reply(&mut self, sent: Moment) {
        if let Some((last, is_unanswered)) = &mut self.last_heartbeat {
            *is_unanswered &= *last != sent;
        }
    }

    /// The log was read; what is still missing after a page of entries is read at once, anything
    /// else with patience.
    pub(super) fn on_log_reply(&mut self, has_progressed: bool) {
        self.reading_since = None;
        self.behind_since = has_progressed.then(Moment::default);
    }

    /// Looks at where the sidecar stands now.
    pub(super) fn observe(&mut self, now: Moment, applied: Option<Fence>, is_behind: bool) {
        self.heartbeat_requested |= applied != self.last_reported;
        self.behind_since = is_behind.then(|| self.behind_since.unwrap_or(now));
    }

    pub(super) fn is_heartbeat_due(&self, now: Moment, config: &ReplicaConfig) -> bool {
        now >= self.next_heartbeat(config)
    }

    pub(super) fn on_heartbeat_sent(&mut self, now: Moment, applied: Option<Fence>) {
        (self.last_heartbeat, self.last_reported, self.heartbeat_requested) =
            (Some((now, true)), applied, false);
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

    /// One heartbeat is out at a time, unless its reply is overdue.
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

/// How long before `sent` the heartbeats of all domains fell together.
fn since_aligned_heartbeat(sent: Moment, config: &ReplicaConfig) -> Duration {
    let beat = config.heartbeat_interval.as_nanos();
    match config.heartbeat_origin {
        Some(origin) if beat > 0 => {
            let past = sent.since(origin).as_nanos() % beat;
            Duration::from_nanos(u64::try_from(past).unwrap_or_default())
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
