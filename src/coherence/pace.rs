//! When a sidecar sends its heartbeats and reads the log. Nothing here keeps a promise: a heartbeat too many or too late
//! costs work or the lease, never an answer's truth.

use super::sidecar::Config;
use super::words::{Fence, Moment};

/// What is under way and what is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Pace {
    still: bool,
    /// The last heartbeat that was sent, and whether its reply is still out.
    beat: Option<(Moment, bool)>,
    /// What the last heartbeat reported.
    reported: Option<Fence>,
    /// Something is to be said or learned before the next heartbeat would be due.
    hurry: bool,
    /// Since when something that was heard of is missing.
    behind_since: Option<Moment>,
    reading_since: Option<Moment>,
}

impl Pace {
    /// Of a sidecar that has nobody to talk to.
    pub(super) fn still() -> Self {
        Self { still: true, ..Self::default() }
    }

    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// The heartbeat of `sent` was answered.
    pub(super) fn answered(&mut self, sent: Moment) {
        if let Some((last, out)) = &mut self.beat {
            *out &= *last != sent;
        }
    }

    /// The log was read; what is still missing after a page of entries is read at once, anything else with patience.
    pub(super) fn log_answered(&mut self, page: bool) {
        self.reading_since = None;
        self.behind_since = page.then(Moment::default);
    }

    /// Looks at where the sidecar stands now.
    pub(super) fn look(&mut self, now: Moment, applied: Option<Fence>, behind: bool) {
        self.hurry |= applied != self.reported;
        self.behind_since = behind.then(|| self.behind_since.unwrap_or(now));
    }

    pub(super) fn beat_due(&self, now: Moment, config: &Config) -> bool {
        now >= self.beat_at(config)
    }

    pub(super) fn sent(&mut self, now: Moment, applied: Option<Fence>) {
        (self.beat, self.reported, self.hurry) = (Some((now, true)), applied, false);
    }

    pub(super) fn log_due(&self, now: Moment, config: &Config) -> bool {
        now >= self.log_at(config)
    }

    pub(super) fn asked(&mut self, now: Moment) {
        self.reading_since = Some(now);
    }

    pub(super) fn wakes_at(&self, config: &Config) -> Moment {
        self.beat_at(config).min(self.log_at(config))
    }

    /// One heartbeat is out at a time, unless its reply is overdue.
    fn beat_at(&self, config: &Config) -> Moment {
        match self.beat {
            _ if self.still => Moment::NEVER,
            None => Moment::default(),
            Some((sent, true)) => sent.after(config.retry),
            Some((sent, false)) if self.hurry => sent.after(config.spacing),
            Some((sent, false)) => sent.after(config.beat),
        }
    }

    fn log_at(&self, config: &Config) -> Moment {
        let Some(since) = self.behind_since else { return Moment::NEVER };
        self.reading_since.map_or_else(|| since.after(config.patience), |reading| reading.after(config.retry))
    }
}
