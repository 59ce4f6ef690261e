//! The times of all faults: a schedule that follows from its seed alone.
//!
//! Faults come in episodes of three at a time, with calm between them in which the fleet recovers.
//! They are dealt like cards from a shuffled deck, so that a short run has nearly every one of
//! them, and a long one has each of them often and in ever new combinations.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::support::link::{Cut, Direction, LinkSpeed};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The link is down: its connections end, and new ones too.
    Cut(Cut),
    /// The link's connections end once.
    Drop(Cut),
    /// The link delays its bytes.
    Late,
    /// The link delays its bytes, and then swallows those from Redis: the last answers that arrived
    /// are old already.
    Fade,
    /// The link carries a trickle.
    Trickle,
    /// One direction of the link's connections ends, the other goes on.
    HalfClose(Direction),
    /// The link swallows bytes to Redis, or from it, or both.
    BlackHole(Option<Direction>),
    /// The sidecar is paused (SIGSTOP).
    Pause,
    /// The sidecar is killed (SIGKILL), and a new process replaces it.
    Kill,
    /// The sidecar is shut down (SIGTERM) while a new process replaces it.
    Replace,
    /// Redis is killed and comes back with its data.
    RedisWithData,
    /// Redis comes back with data that is older than at its end.
    RedisWithOldData,
    /// Redis comes back empty.
    RedisWithoutData,
    /// Redis is paused.
    RedisPause,
    /// Redis runs FLUSHALL.
    Flush,
    /// Redis closes every subscriber's connection, as it does to slow ones.
    Subscribers,
    /// The log's stream is trimmed to its last entry, again and again.
    Trim,
    /// Claims in Redis lose their expiry, again and again.
    EndlessClaims,
    /// Half of the requests to the sources are answered only once this fault is over.
    SourceHangs,
    /// The sidecar's domain files get another ttl.
    Reload,
}

/// A fault with its time and its sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// The sidecar; a fault of Redis concerns all.
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

    /// The name under which the tally counts the fault.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase().replace(['(', ')'], " ").trim().to_owned()
    }

    /// The speed of a slowed link.
    pub(super) fn pace(self, rng: &mut fastrand::Rng) -> LinkSpeed {
        let late =
            |millis| LinkSpeed { delay: Duration::from_millis(millis), bytes_per_second: None };
        match self {
            Self::Late => late(rng.u64(5..300)),
            // An answer with this delay still counts.
            Self::Fade => late(rng.u64(30..50)),
            Self::Trickle => LinkSpeed {
                delay: Duration::ZERO,
                bytes_per_second: NonZeroU32::new(rng.u32(500..8_000)),
            },
            _ => LinkSpeed::default(),
        }
    }

    /// The duration of the fault: some are shorter than the lease, most are longer.
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
        let of_sidecar =
            if fault.is_redis() { String::new() } else { format!(" of sidecar {member}") };
        write!(
            f,
            "{:8.3} … {:8.3}  {}{of_sidecar}",
            from.as_secs_f64(),
            until.as_secs_f64(),
            fault.name()
        )
    }
}

/// The schedule of a run of this length. The last few leases of it are calm.
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

/// Three faults at a time, at most one of them Redis's, and no sidecar with two.
fn episode(
    begins: Duration,
    members: usize,
    lease: Duration,
    deck: &mut Vec<Fault>,
    rng: &mut fastrand::Rng,
) -> Vec<Step> {
    let mut order: Vec<usize> = (0..members).collect();
    rng.shuffle(&mut order);
    let mut steps: Vec<Step> = Vec::new();
    for member in order.into_iter().take(3) {
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
                let swallowed_from = from + lease;
                let swallowed = Fault::BlackHole(Some(Direction::Down));
                steps.push(Step { from, until: swallowed_from, member, fault });
                steps.push(Step {
                    from: swallowed_from,
                    until: until.max(swallowed_from + lease * 2),
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
