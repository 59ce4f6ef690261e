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
//! | [`ReferenceStore`] | what each call of the store does, as a reference | tests |
//!
//! A sidecar's own part of the store is in its [`Replica`], an invalidator's in its
//! [`Invalidation`].
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
//! **The store** ([`ReferenceStore`]) outlives Redis, pods and sources. It has a sequence of its
//! own, which goes on for as long as the database lives.
//!
//! - D1. Everything is of one namespace and domain: a log record (life, era, protocol, `seq`,
//!   floor, a mark an epoch of Redis), stamps, datasets.
//! - D2. A stamping ([`Stamping`]) knows what it stamps, *then* takes the next number, *then*
//!   stamps by maximum, *then* moves a mark. `all` raises the floor to its number. Stamps are
//!   forgotten only once the floor has risen to them.
//! - D3. A mark at *b* says that all entries of that epoch up to *b* are stamped, or below the
//!   floor. It opens at 0, and moves only from where it stands, by one who knows all entries
//!   between: its own applied ones if it followed the log since, else those that it reads there.
//!   Where the log no longer reaches back, all is stamped. A name that no dataset can have is
//!   passed over ([`stampable_scopes`]), and more names than the bound mean all.
//! - D4. A flight's fence ([`StoreFence`]) was read in the store before the flight's sources were
//!   read; without one, nothing is stored there.
//! - D5. A write replaces what did not begin later: by `seq`, then by the database's time. What no
//!   flight of this era can have written (beyond the store's `seq` or its time, or of another era)
//!   is no row, and is replaced.
//! - D6. A dataset is believed if it is of this era, floor ≤ its `seq` ≤ the store's, and no stamp
//!   of its key or tags is higher: in one snapshot, or in the order mark, dataset, stamps, floor.
//! - D7. While its lease holds, a sidecar takes what the store gave as of (epoch, mark), read with
//!   it, and no newer ([`Replica::believed_dataset`]): it is handed out, kept in memory
//!   ([`Replica::may_store_believed`]) and passed to Redis ([`Replica::fence_of_reading`]) only if
//!   it is valid from there on by the sidecar's own stamps. No mark yet: a miss, and the carry is
//!   due. Without the lease it is handed out if no entry that was applied here above the mark names
//!   it, and kept nowhere; but a flight that a caller joined, which needed the lease, is judged as
//!   with it.
//! - D8. An invalidation is acknowledged by A1 or A2 only once every store that the registry names,
//!   and the invalidator's own, has it, *and* Redis has answered in its epoch a call that was sent
//!   after that; where a deposed primary may answer for the grace: after that and the grace. If the
//!   epoch is over before, the invalidation is issued again ([`InvalidationState::Over`]).
//!   Heartbeats name the sidecar's store and its mark; Redis keeps the highest of each, for as long
//!   as the epoch.
//! - D9. What was applied and not seen stamped is owed when the epoch ends: it is stamped, and what
//!   it names is not handed out until then. Too much of it: all. A reading that was asked for
//!   before the epoch changed, or before a debt was paid, is not handed out.
//! - D10. Where the store has gone back, the next stamping begins an era under a random name that
//!   its caller brought, and nothing of before is believed; until then every other call answers
//!   [`StoreReply::OtherLife`]. It has gone back if the database is in another life than the log
//!   record says, or if a mark is below what Redis was told or the caller has seen.
//! - D11. Whoever has the store does D2, D3, D8 and D9, whatever its domain file says of its own
//!   datasets: nothing here depends on it.
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
//! With a store there is a fourth place. Every store has the stamp of *k* from *s* on, *s* ≤ *T*
//! (D8).
//!
//! 4. *The store* was asked after *T* by a flight that began after the request came. It believes
//!    only what began after the stamp's number was taken (D4, D6), and so after *t*; if it has gone
//!    back since, only what began after that (D10).
//! 5. *What memory, Redis or a joined flight has from the store* was read there perhaps before *s*.
//!    Under which epoch?
//!    - *In E*: it is as new as the mark that was read with it (D7). If that is *k* or more, the
//!      stamps up to *k* were there (D2, D3), and step 4 holds. If it is less, the dataset carries
//!      a fence below *k*, and steps 2 and 3 hold for it as for one that was collected then. A
//!      flight is judged once more when it ends, so that a caller who joined it after *k* was
//!      applied gets nothing that *k* names.
//!    - *In an epoch before E*: as in steps 2 and 3.
//!    - *In an epoch after E*: Redis answered in *E* after *s*, so that epoch began after *s*; what
//!      was read in the store under it was read with the stamp. A deposed primary that answered had
//!      the grace for it, and the call was sent later than *s* by as much.
//!
//! Nothing stale is written, by the same steps: into memory by S5 (a store needs the lease, so step
//! 3 holds for it as for a read), into Redis by R3, whenever the write arrives.
//!
//! Every invalidation is acknowledged in the end, because A2 needs only the invalidator's clock;
//! with a store once that answers, and Redis after it, since whoever applied an entry carries it
//! (D3), and what is over is issued again.
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
//! - What the store reported as stamped is durable in its life. A life ends where it may not be,
//!   and no two lives of a database look the same. A restored database that looks as before (a disk
//!   snapshot on the same timeline) is noticed by those who know an epoch from before, and only by
//!   them: who reads it first without Redis may be given what an acknowledged invalidation
//!   outdated.
//! - An invalidator without the store knows of it from the registry. Where Redis has lost that, it
//!   knows nothing until a sidecar with the store has sent a heartbeat: give invalidators the
//!   store.
//! - An invalidation that nobody waited for, and that Redis lost before anybody who applied it
//!   reached the store, may be missing there. Redis may hold such a dataset then, too.
//! - A network may lose, delay, repeat and reorder whatever it likes, for as long as it likes.
//!
//! # For the drivers
//!
//! - The moment of a heartbeat is taken *before* it is written, the moment of a read *after* the
//!   request came.
//! - Events of one replica and stores into its memory are applied under one lock; a store calls
//!   [`Replica::may_store`] and writes under the same hold of it.
//! - The moment from which a store has an invalidation is taken *after* its reply came; so is that
//!   of [`Replica::believed_dataset`], which is asked as the flight ends, under the lock of the
//!   replica.
//! - After every event [`Replica::store_step`] may have a call; [`Replica::next_store_wake`] says
//!   when it may have one though nothing happens.
//! - A stamping that a database makes in several round trips goes by [`Stamping::part_after`]. One
//!   that is cancelled, or whose commit is in doubt, is not answered.
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
