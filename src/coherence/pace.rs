//! When a sidecar sends its heartbeats and reads the log. Nothing here keeps a promise: a heartbeat
//! too many or too late costs work or the lease, never an answer's truth.

use std::time::Duration;

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

    /// The log was read; what is still missing after a page of entries is read at once, anything
    /// else with patience.
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
            Some((sent, false)) => sent.after(config.beat.saturating_sub(past(sent, config))),
        }
    }

    fn log_at(&self, config: &Config) -> Moment {
        let Some(since) = self.behind_since else { return Moment::NEVER };
        self.reading_since
            .map_or_else(|| since.after(config.patience), |reading| reading.after(config.retry))
    }
}

/// How long before `sent` the heartbeats of all domains fell together.
fn past(sent: Moment, config: &Config) -> Duration {
    let beat = config.beat.as_nanos();
    match config.together {
        Some(origin) if beat > 0 => {
            let past = sent.since(origin).as_nanos() % beat;
            Duration::from_nanos(u64::try_from(past).unwrap_or_default())
        }
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::Name;
    use super::*;

    #[test]
    fn heartbeats_fall_together_again_whenever_one_came_in_between() {
        let at = |millis| Moment::from_origin(Duration::from_millis(millis));
        let lease = Duration::from_secs(4);
        let config = Config { together: Some(at(100)), ..Config::new(Name("a".into()), lease) };
        let next =
            |sent| Pace { beat: Some((at(sent), false)), ..Pace::default() }.beat_at(&config);
        assert_eq!([next(100), next(101), next(700), next(1_099)], [at(1_100); 4]);
        assert_eq!(next(1_100), at(2_100));
        assert_eq!(next(50), at(1_050), "before the first time, its own");
    }
}
