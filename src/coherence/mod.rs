//! The coherence protocol: how a fleet of sidecars keeps caches in memory and in Redis that never
//! lie after an acknowledged invalidation. Pure: events in, actions out; no I/O, no clock, no
//! async, no import of another module of this crate.
//!
//! This page is the protocol's specification. Its terms are those of `docs/glossary.md`; the names
//! in the code are links.
//!
//! # The parts
//!
//! | part | is | driven by |
//! | --- | --- | --- |
//! | [`Replica`] | a sidecar's place in the log, its lease, its stamps | the bus |
//! | [`Flights`] | the flights of one key, and which of them a caller joins | the cache |
//! | [`Invalidation`] | when an invalidation is acknowledged | the invalidator |
//! | [`EpochAge`] | how long a process has known the epoch | [`Replica`], and the invalidator |
//! | [`ReferenceServer`] | what each script does in Redis, as a reference | tests |
//!
//! # The rules
//!
//! **Redis** ([`ReferenceServer`]). One hash holds the epoch, the life that it belongs to, `seq`,
//! the settled mark, the number of stamps, the floor, and the registry; the stream and the stamps
//! are keys beside it that a new epoch deletes.
//!
//! - R1. Every script compares the server's life with the recorded one first. In another life, or
//!   without the hash, a heartbeat or an invalidation begins an epoch under a random name that its
//!   caller brought; every other script answers [`ScriptReply::OtherLife`] and does nothing.
//! - R2. An invalidation takes the next `seq`, appends one entry, stamps what it names, and
//!   publishes, in one step.
//! - R3. A dataset is stored ([`ScriptCall::Store`]) or answered ([`ScriptCall::Fetch`]) only if
//!   its fence is of this epoch, not below the floor, and not below a stamp of its key or of one of
//!   its tags. Stamps are bounded: the oldest is forgotten, and the floor rises to it. `all`
//!   forgets every stamp and raises the floor to its own `seq`. If the stamps are fewer than the
//!   hash says, the log counts as missing (R1). A fence beyond the log's end is no fence. A dataset
//!   that was collected earlier does not replace a valid one that was collected later.
//! - R4. A heartbeat registers its sender with the `seq` in its reply, and with the highest `seq`
//!   that the sender reported in this epoch; a report of another epoch counts as nothing. A report
//!   beyond the log's end shows that the log is damaged: a new epoch begins. A registered lease
//!   over [`LEASE_MAX`] is ignored.
//! - R5. [`ScriptCall::ReadLog`] answers with the entries after a place without a gap, or that the
//!   stream no longer reaches back to that place.
//!
//! **A sidecar** ([`Replica`]).
//!
//! - S1. It applies the entries of its epoch in order, each once, whether they come by pub/sub or
//!   from the stream. Where the stream no longer reaches back to the last applied entry, it empties
//!   memory and continues at the log's end. Published entries beyond the end that the log itself
//!   has confirmed cause one reading of the log; if the log ends before them they are forgotten.
//! - S2. A heartbeat's reply that names another epoch empties memory, and the replica continues at
//!   the `seq` in the reply. A reply to a heartbeat that was sent before the latest one whose reply
//!   was applied never changes the epoch.
//! - S3. A reply renews the lease once everything up to the `seq` in the reply is applied: until
//!   the moment the heartbeat was *sent*, plus the lease, less the margin for drift, on a clock
//!   that runs while the machine sleeps.
//! - S4. Memory answers only while the lease holds, and only with a valid dataset: stored since
//!   memory was last emptied, and not stamped above its fence by an applied entry (the stamps are
//!   bounded as in R3).
//! - S5. A flight has a start point ([`StartPoint`]). The dataset that it collected goes into
//!   memory only if memory was not emptied since, and no entry applied since names the dataset. A
//!   dataset that it read *in Redis* is as new as the `seq` up to which Redis confirmed it, and is
//!   refused if an entry that was applied here names it after the fence that it carries
//!   ([`Replica::has_outdated`]).
//! - S6. While the lease holds a caller may join a flight that began before, unless memory was
//!   emptied since, or an applied entry names its key, or any tag (its tags are not known yet), or
//!   all. Without the lease no caller joins a flight that began before the caller came: one flight
//!   runs, one waits, and further ones begin only where a caller's deadline would pass while it
//!   waits ([`Flights`]).
//! - S7. A sidecar that stops gives up its lease, takes no further replies, and then deregisters.
//!
//! **An invalidator** ([`Invalidation`]) has acknowledgement
//!
//! - A1. when every member of the registry of the invalidation's own epoch has reported its `seq`
//!   in that epoch, if the registry is trusted; or
//! - A2. when, on its own clock since the script's answer arrived, the longest lease registered at
//!   that time has passed, if the registry is trusted; or, if it is not, the longest lease that the
//!   invalidator ever received in a reply, plus the grace.
//!
//! The registry is trusted if the epoch is not over, and if the invalidator has known the epoch for
//! its whole lease ([`EpochAge`]) or another process that had has marked it as settled. Once A2
//! holds, a registration whose last reply had less than the invalidation's `seq` is removed; no
//! other registration ever is.
//!
//! **A hint** makes every sidecar that receives it run the invalidation script, which does nothing
//! if all that the hint names is stamped above a bound.
//!
//! - H1. The bound is the highest `seq` *received*, and is given only while the subscription is
//!   gapless: it keeps the order of one server, a heartbeat sent after it was made was answered,
//!   and no message was missed since (an entry of another epoch counts as missed). Otherwise there
//!   is no bound, and the script always invalidates.
//!
//! # Why no read after an acknowledgement is older than it
//!
//! Let an invalidation have `seq` *k* in epoch *E*; *t* is when its script ran, and *T* ≥ *t* when
//! it was acknowledged. A request comes after *T*. The dataset in its answer was read from the
//! sources after *t*:
//!
//! 1. *A flight that began after the request came* reads the sources after *T*.
//! 2. *Redis* was asked after *T* by such a flight. If it is still in *E*, the stamp of *k* (or the
//!    floor) refuses what was collected under a fence below *k*; and a fence of *k* or more means
//!    that the flight began after *k* was applied, so after *t* (R2, R3). If it is in a later
//!    epoch, only datasets of that epoch are handed out, whose flights began after it did, so after
//!    *t*. A deposed primary that is still in *E*, or in an epoch before, no longer answers: the
//!    grace has passed.
//! 3. *Memory, or a flight that the request joined*, needs the lease at a moment after *T* (S4,
//!    S6). The reply that gave it was to a heartbeat sent after *T* − lease. Which log answered
//!    that heartbeat, and when?
//!    - *In E, after k*: its reply had *k* or more, all of which is applied (S3). Memory and
//!      joinable flights then hold nothing from before *k*: the entry stamped it (S4, S5, S6), or
//!      memory was emptied (S1).
//!    - *In E, before k*: it was sent before *t*. By A2 that lease has ended, on the sidecar's
//!      clock because of the margin. By A1 the sidecar was in the registry, which it enters with
//!      its first heartbeat of *E* and leaves only by S7, or by removal: its last reply then had
//!      less than some *j*, and a whole lease has passed since *j*, so every lease that it was ever
//!      granted in *E* is over. So it has reported *k*, and has applied it.
//!    - *In an epoch before E*: *E* began before *t*, so the heartbeat was sent before *t*, or to a
//!      deposed primary within the grace. A registry that is trusted is so a whole lease after *E*
//!      was known, when such a lease has ended; one that is not trusted makes the invalidator wait
//!      for the whole lease (A2).
//!    - *In an epoch after E*: memory was emptied on entering it (S2), after *t*, and the flights
//!      that ran then were outdated with it (S5, S6).
//!
//! Nothing stale is written, by the same steps: into memory by S5 (a store needs the lease, so step
//! 3 holds for it as for a read), into Redis by R3, whenever the write arrives.
//!
//! Every invalidation is acknowledged in the end, because A2 needs only the invalidator's clock.
//!
//! # What it assumes
//!
//! - Clock *rates* differ by less than the margin (2 % of the lease). No clock's time of day
//!   matters, and Redis's none.
//! - A script is atomic, and one server runs one at a time. A failover may lose any suffix of the
//!   log: another life reveals it. The new primary may answer while the old one does for no longer
//!   than the grace, and the old one takes no invalidations meanwhile.
//! - Random names are unique: of epochs and of processes. A sidecar's name is never used by two.
//! - No virtual machine goes back to a snapshot; nobody writes into the keys by hand. In a fleet
//!   whose leases differ, an invalidator that never received the longest lease may not be the first
//!   to meet a new epoch.
//! - A network may lose, delay, repeat and reorder whatever it likes, for as long as it likes.
//!
//! # For the drivers
//!
//! - The moment of a heartbeat is taken *before* it is written, the moment of a read *after* the
//!   request came.
//! - Events of one replica and stores into its memory are applied under one lock; a store calls
//!   [`Replica::may_store`] and writes under the same hold of it.
//! - A reply belongs to its call. A reply that is no longer awaited is dropped.
//! - Dropping a dataset that is no longer valid only frees memory; it may be kept for its
//!   validators.
//!
//! # How it is checked
//!
//! `tests/coherence` holds an exhaustive model check and a seeded simulation, both of this very
//! code; [`Guard`] lists the rules. Each rule is shown to be needed: with its guard removed
//! (feature `removable-guards`), both find a broken promise. `make test` runs a bounded part of it.
//! The long runs:
//!
//! ```text
//! BFB_CHECK_STATES=20000000 cargo test \
//!     --config profile.dev.package.bfb.opt-level=3 --test coherence scenarios -- --nocapture
//! BFB_SIMULATION_STEPS=1000000000 BFB_SIMULATION_SEED=1 cargo test \
//!     --config profile.dev.package.bfb.opt-level=3 --test coherence runs -- --nocapture
//! cargo test --features removable-guards --bin bfb-removable-guards -- --nocapture
//! ```
//!
//! The same promises are held against real sidecars on a real Redis, also with guards removed, in
//! `tests/history.rs`.

mod calls;
mod entry_fence;
mod epoch_age;
mod flights;
mod guards;
mod invalidation;
mod lease;
mod log_follower;
mod protocol;
mod reference_server;
mod reference_store;
mod replica;
mod replica_config;
mod schedule;
mod stamps;
mod store_calls;
mod store_progress;
mod store_view;

pub use calls::{
    FetchedDataset, Heartbeat, HeartbeatReply, IssuedInvalidation, ScriptCall, ScriptReply,
    ScriptRequest, StoreReport, TierDataset,
};
pub use entry_fence::EntryFence;
pub use epoch_age::EpochAge;
pub use flights::{
    FlightDecision, FlightId, Flights, JoinNeeds, RUNNING_MAX as FLIGHTS_RUNNING_MAX,
};
pub use guards::Guard;
#[cfg(feature = "removable-guards")]
pub use guards::removable;
pub use invalidation::{Invalidation, InvalidationState};
pub use protocol::{
    DatasetPlace, Epoch, Fence, InvalidationScope, LEASE_MAX, LogEntry, MemberName, Moment,
    PROTOCOL, PublishedEntries, SCOPES_BYTES_MAX, SCOPES_MAX, Seq, ServerLife, TAG_BYTES_MAX,
    TAGS_MAX, are_valid_scopes, are_valid_tags,
};
pub use reference_server::{LogLimits, ReferenceServer, ScriptOutcome};
pub use reference_store::{ReferenceStore, StoreScan};
pub use replica::{EmptyReason, Replica, ReplicaAction, ReplicaEvent, StartPoint};
pub use replica_config::ReplicaConfig;
pub use store_calls::{
    MarkMove, STORE_KEY_BYTES_MAX, STORE_PROTOCOL, StampReceipt, Stamping, StampingPart, StoreCall,
    StoreDataset, StoreEra, StoreFence, StoreId, StoreLife, StoreMark, StoreReading, StoreReply,
    StoreRequest, StoreSeq, StoreTime, stampable_scopes,
};
pub use store_view::StoreStep;
