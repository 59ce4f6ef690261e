//! What breaks when: a schedule of faults that follows from its seed alone.
//!
//! Faults come in episodes of three at a time, with calm between them in which a healthy fleet
//! finds itself again. They are dealt like cards from a shuffled deck, so that a short run meets
//! nearly every one of them, and a long one each of them often and in ever new company.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::support::link::{Cut, Direction, LinkSpeed};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The link is down: connections end, new ones too.
    Cut(Cut),
    /// Its connections end once.
    Drop(Cut),
    /// It delays what it carries.
    Late,
    /// It delays what it carries, and then swallows what comes down: the last answers that arrived
    /// are old already.
    Fade,
    /// It carries a trickle.
    Trickle,
    /// One way of its connections ends, the other goes on.
    HalfClose(Direction),
    /// It swallows what goes up, or down, or both.
    BlackHole(Option<Direction>),
    /// The sidecar stands still (SIGSTOP).
    Pause,
    /// It dies (SIGKILL), and another takes its place.
    Kill,
    /// It is told to stop (SIGTERM) while another takes its place.
    Replace,
    /// Redis dies and comes back with the data that it had.
    RedisWithData,
    /// It comes back with data that is older than what it had.
    RedisWithOldData,
    /// It comes back with nothing.
    RedisWithoutData,
    /// It stands still.
    RedisPause,
    /// FLUSHALL.
    Flush,
    /// Every subscriber is thrown out, as one that was too slow is.
    Subscribers,
    /// The log's stream forgets all but its last entry, again and again.
    Trim,
    /// Claims in Redis are made to have no end, again and again.
    EndlessClaims,
    /// Half of what the sources are asked is answered only once this is over.
    SourceHangs,
    /// The sidecar's domain files come to say another ttl.
    Reload,
}

/// When, whom, what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// Whom it concerns; Redis concerns everybody.
    pub(super) member: usize,
    pub(super) fault: Fault,
}

pub(super) const DECK: [Fault; 24] = [
    Fault::Cut(Cut::Reset),
    Fault::Cut(Cut::Finish),
    Fault::Drop(Cut::Reset),
    Fault::Late,
    Fault::Fade,
    Fault::Trickle,
    Fault::HalfClose(Direction::Up),
    Fault::HalfClose(Direction::Down),
    Fault::BlackHole(Some(Direction::Up)),
    Fault::BlackHole(Some(Direction::Down)),
    Fault::BlackHole(None),
    Fault::Pause,
    Fault::Kill,
    Fault::Replace,
    Fault::RedisWithData,
    Fault::RedisWithOldData,
    Fault::RedisWithoutData,
    Fault::RedisPause,
    Fault::Flush,
    Fault::Subscribers,
    Fault::Trim,
    Fault::EndlessClaims,
    Fault::SourceHangs,
    Fault::Reload,
];

impl Fault {
    pub(super) fn is_redis(self) -> bool {
        matches!(
            self,
            Self::RedisWithData
                | Self::RedisWithOldData
                | Self::RedisWithoutData
                | Self::RedisPause
                | Self::Flush
                | Self::Subscribers
                | Self::Trim
                | Self::EndlessClaims
        )
    }

    /// Its name, for those who count.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase().replace(['(', ')'], " ").trim().to_owned()
    }

    /// How a link is slowed.
    pub(super) fn pace(self, rng: &mut fastrand::Rng) -> LinkSpeed {
        let late =
            |millis| LinkSpeed { delay: Duration::from_millis(millis), bytes_per_second: None };
        match self {
            Self::Late => late(rng.u64(5..300)),
            // An answer that comes so late still counts.
            Self::Fade => late(rng.u64(30..50)),
            Self::Trickle => LinkSpeed {
                delay: Duration::ZERO,
                bytes_per_second: NonZeroU32::new(rng.u32(500..8_000)),
            },
            _ => LinkSpeed::default(),
        }
    }

    /// How long it lasts: some of them are over before the lease is, most are not.
    fn lasts(self, lease: Duration, rng: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Pause => lease.mul_f64(1.1 + rng.f64() * 1.5),
            _ => lease.mul_f64(0.3 + rng.f64() * 3.2),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until, member, fault } = self;
        let whom = if fault.is_redis() { String::new() } else { format!(" of sidecar {member}") };
        write!(
            f,
            "{:8.3} … {:8.3}  {}{whom}",
            from.as_secs_f64(),
            until.as_secs_f64(),
            fault.name()
        )
    }
}

/// The schedule of a run that lasts so long. The last few leases of it are calm.
pub(super) fn schedule(seed: u64, length: Duration, members: usize, lease: Duration) -> Vec<Step> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut steps = Vec::new();
    let mut deck = Vec::new();
    let mut begins = lease * 2;
    loop {
        let episode = episode(begins, members, lease, &mut deck, &mut rng);
        let ends = episode.iter().map(|step| step.until).max().unwrap_or(begins);
        if ends + lease * 2 > length {
            return steps;
        }
        steps.extend(episode);
        begins = ends + lease.mul_f64(0.9 + rng.f64());
    }
}

/// Three faults at a time, one of them Redis's at the most, no sidecar hit twice.
fn episode(
    begins: Duration,
    members: usize,
    lease: Duration,
    deck: &mut Vec<Fault>,
    rng: &mut fastrand::Rng,
) -> Vec<Step> {
    let mut whom: Vec<usize> = (0..members).collect();
    rng.shuffle(&mut whom);
    let mut steps: Vec<Step> = Vec::new();
    for member in whom.into_iter().take(3) {
        if deck.is_empty() {
            deck.extend(DECK);
            rng.shuffle(deck);
        }
        let redis = steps.iter().any(|step| step.fault.is_redis());
        let Some(card) = deck.iter().rposition(|fault| !redis || !fault.is_redis()) else { break };
        let fault = deck.remove(card);
        let from = begins + lease.mul_f64(rng.f64() / 2.0);
        let until = from + fault.lasts(lease, rng);
        match fault {
            Fault::Fade => {
                let gone = from + lease;
                let swallowed = Fault::BlackHole(Some(Direction::Down));
                steps.push(Step { from, until: gone, member, fault });
                steps.push(Step {
                    from: gone,
                    until: until.max(gone + lease * 2),
                    member,
                    fault: swallowed,
                });
            }
            _ => steps.push(Step { from, until, member, fault }),
        }
    }
    steps.sort_by_key(|step| step.from);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(800);

    #[test]
    fn a_seed_gives_one_schedule() {
        let of = |seed| schedule(seed, Duration::from_mins(1), 5, LEASE);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_short_run_meets_most_of_them_whatever_its_seed() {
        for seed in 0..1_000 {
            let steps = schedule(seed, Duration::from_secs(25), 5, LEASE);
            let sorts = DECK
                .into_iter()
                .filter(|fault| steps.iter().any(|step| step.fault == *fault))
                .count();
            assert!(sorts >= 13, "seed {seed}: {} faults of {sorts} sorts", steps.len());
        }
    }

    #[test]
    fn every_fault_comes_and_redis_has_one_at_a_time() {
        let steps = schedule(1, Duration::from_mins(10), 5, LEASE);
        for fault in DECK {
            assert!(steps.iter().filter(|step| step.fault == fault).count() > 10, "{fault:?}");
        }
        let redis: Vec<_> = steps.iter().filter(|step| step.fault.is_redis()).collect();
        assert!(redis.is_sorted_by(|one, next| one.until < next.from));
    }
}
