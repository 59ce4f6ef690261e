//! Follows the identity's files while the process runs.
//!
//! It polls: inotify misses the symlink swap with which a kubelet replaces a whole volume
//! (kubernetes#112677). A change that makes a valid identity is sent at once; an invalid one is
//! reported once, and only when two polls in a row found it (a writer may be between two files).
//! The old identity stays until a valid one replaces it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::certificate::{format_timestamp, unix_seconds};
use super::files::IdentityFiles;
use super::metrics::CertificateLabel;
use super::{Identity, IdentityError, IdentityMetrics, IdentityPaths};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The pause between two warnings of one kind.
const WARN_EVERY: Duration = Duration::from_hours(1);
/// Long-lived certificates are warned of this long before their end, short-lived ones in their last
/// quarter.
const WARN_BEFORE: Duration = Duration::from_hours(24);

/// Follows the files: every change that makes a valid identity is sent, a broken one is reported
/// and counted.
///
/// Never returns; drop it to stop it.
pub async fn follow_files(
    paths: IdentityPaths,
    current: watch::Sender<Arc<Identity>>,
    metrics: IdentityMetrics,
) {
    let mut trouble = ReportedError::default();
    let mut warnings = WarningTimes::default();
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let current_identity = current.borrow().clone();
        match poll(&paths, &current_identity).await {
            Ok(None) => {
                trouble.clear();
                metrics.broken.set(0);
            }
            Ok(Some(new)) => {
                trouble.clear();
                metrics.broken.set(0);
                warnings = WarningTimes::default();
                metrics.reloads.inc();
                tracing::info!(
                    generation = new.generation,
                    not_after = %format_timestamp(new.not_after),
                    fingerprint = %new.certificate.fingerprint,
                    "new identity"
                );
                current.send_replace(Arc::new(new));
            }
            Err(error) => {
                if trouble.must_report(&error) {
                    metrics.reload_failures.inc();
                    metrics.broken.set(1);
                    tracing::warn!(
                        generation = current_identity.generation,
                        "the identity's files changed but are not usable, the old identity stays: \
                         {error}"
                    );
                }
            }
        }
        let current_identity = current.borrow().clone();
        publish_expiry(&metrics, &current_identity);
        for warning in warnings.take_due(&current_identity, Instant::now(), SystemTime::now()) {
            warning.log(&current_identity);
        }
    }
}

/// Reads and checks off the event loop. `None`: nothing changed.
async fn poll(
    paths: &IdentityPaths,
    current_identity: &Arc<Identity>,
) -> Result<Option<Identity>, IdentityError> {
    let paths = paths.clone();
    let current_identity = current_identity.clone();
    let read = tokio::task::spawn_blocking(move || {
        let files = IdentityFiles::read(&paths)?;
        if files.digest() == current_identity.digest {
            return Ok(None);
        }
        Identity::check(&paths, &files, current_identity.generation + 1).map(Some)
    });
    let message = |error| format!("the files could not be read: {error}");
    read.await
        .unwrap_or_else(|error| Err(IdentityError { message: message(error), is_missing: true }))
}

/// The last error of the identity's files, kept so that each fault is logged once.
#[derive(Debug, Default)]
struct ReportedError {
    /// The error of the last poll.
    last_polled: Option<String>,
    /// The error that was logged last, until it ends.
    logged: Option<String>,
}

impl ReportedError {
    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether `error` occurred in two polls in a row and is not logged yet.
    fn must_report(&mut self, error: &IdentityError) -> bool {
        let again = self
            .last_polled
            .replace(error.message.clone())
            .is_some_and(|last| last == error.message);
        let is_new = again && self.logged.as_ref() != Some(&error.message);
        if is_new {
            self.logged = Some(error.message.clone());
        }
        is_new
    }
}

fn publish_expiry(metrics: &IdentityMetrics, identity: &Identity) {
    let set = |which, time| {
        metrics
            .expiry
            .get_or_create(&CertificateLabel { which })
            .set(i64::try_from(unix_seconds(time)).unwrap_or(i64::MAX));
    };
    set("identity", identity.not_after);
    if let Some(first) = identity.authorities_not_after() {
        set("ca", first);
    }
}

/// The conditions that are warned of while they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warning {
    ExpiresSoon,
    Expired,
    RevocationsStale,
}

impl Warning {
    const ALL: [Self; 3] = [Self::ExpiresSoon, Self::Expired, Self::RevocationsStale];

    fn applies(self, identity: &Identity, clock: SystemTime) -> bool {
        let is_over = identity.certificate.is_expired(clock);
        match self {
            Self::ExpiresSoon => !is_over && expires_soon(identity, clock),
            Self::Expired => is_over,
            Self::RevocationsStale => {
                identity.revocations_next_update().is_some_and(|next| next < clock)
            }
        }
    }

    fn log(self, identity: &Identity) {
        let not_after = format_timestamp(identity.not_after);
        match self {
            Self::ExpiresSoon => {
                tracing::warn!(%not_after, "our certificate expires soon; hint: \
                     renew `tls.crt` and `tls.key`");
            }
            Self::Expired => tracing::error!(
                %not_after,
                "our certificate has expired: upstreams refuse it; hint: \
                 renew `tls.crt` and `tls.key`"
            ),
            Self::RevocationsStale => {
                let next_update =
                    identity.revocations_next_update().map(format_timestamp).unwrap_or_default();
                tracing::warn!(
                    %next_update,
                    "`crl.pem` is older than it should be, and honoured all the same; hint: \
                     renew it"
                );
            }
        }
    }
}

/// When each warning was logged last: a recent one holds no other back.
#[derive(Debug, Default)]
struct WarningTimes([Option<Instant>; Warning::ALL.len()]);

impl WarningTimes {
    /// Returns the warnings that are due.
    fn take_due(&mut self, identity: &Identity, now: Instant, clock: SystemTime) -> Vec<Warning> {
        let kinds = Warning::ALL.into_iter().zip(&mut self.0);
        kinds
            .filter(|(warning, last)| {
                let lately =
                    last.is_some_and(|last| now.saturating_duration_since(last) < WARN_EVERY);
                !lately && warning.applies(identity, clock)
            })
            .map(|(warning, last)| {
                *last = Some(now);
                warning
            })
            .collect()
    }
}

fn expires_soon(identity: &Identity, now: SystemTime) -> bool {
    let lifetime =
        identity.not_after.duration_since(identity.certificate.not_before).unwrap_or_default();
    now + WARN_BEFORE.min(lifetime / 4) > identity.not_after
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::identity::issue::{Authority, Leaf, Validity};

    fn fault(message: &str) -> IdentityError {
        IdentityError { message: message.to_owned(), is_missing: false }
    }

    #[test]
    fn a_fault_is_told_once_when_it_has_lasted_two_polls() {
        let mut trouble = ReportedError::default();
        assert!(!trouble.must_report(&fault("a")));
        assert!(trouble.must_report(&fault("a")));
        assert!(!trouble.must_report(&fault("a")));
        assert!(!trouble.must_report(&fault("b")), "a writer may be between two files");
        assert!(trouble.must_report(&fault("b")));
        trouble.clear();
        assert!(!trouble.must_report(&fault("b")));
        assert!(trouble.must_report(&fault("b")), "it came back after all was well");
    }

    fn identity(lifetime: Duration) -> Identity {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("a", Validity::days(1)).unwrap();
        let leaf = Leaf::new("me").valid(Validity::lasting(lifetime));
        authority.issue(&leaf).unwrap().write(dir.path(), authority.ca_pem()).unwrap();
        Identity::load(&IdentityPaths { dir: dir.path().to_owned(), ca: None }, 0).unwrap()
    }

    #[test]
    fn the_end_is_published() {
        let metrics = IdentityMetrics::default();
        let identity = identity(Duration::from_secs(10));
        publish_expiry(&metrics, &identity);
        let of = |which| metrics.expiry.get_or_create(&CertificateLabel { which }).get();
        assert_eq!(of("identity"), i64::try_from(unix_seconds(identity.not_after)).unwrap());
        assert!(of("ca") > of("identity"));
    }

    #[test]
    fn each_warning_is_said_once_an_hour_and_none_holds_another_back() {
        let identity = identity(Duration::from_secs(10));
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut warnings = WarningTimes::default();
        assert_eq!(warnings.take_due(&identity, now, clock), [Warning::ExpiresSoon]);
        assert_eq!(warnings.take_due(&identity, now, clock), []);
        let over = identity.not_after + Duration::from_secs(1);
        assert_eq!(warnings.take_due(&identity, now, over), [Warning::Expired], "at once");
        assert_eq!(warnings.take_due(&identity, now + WARN_EVERY / 2, over), []);
        assert_eq!(warnings.take_due(&identity, now + WARN_EVERY, over), [Warning::Expired]);
    }

    #[test]
    fn a_list_of_revoked_certificates_that_was_not_renewed_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("a", Validity::days(9)).unwrap();
        let leaf = Leaf::new("me").valid(Validity::days(9));
        authority.issue(&leaf).unwrap().write(dir.path(), authority.ca_pem()).unwrap();
        std::fs::write(dir.path().join("crl.pem"), authority.revoke(&[]).unwrap()).unwrap();
        let identity =
            Identity::load(&IdentityPaths { dir: dir.path().to_owned(), ca: None }, 0).unwrap();
        let (now, clock) = (Instant::now(), SystemTime::now());
        assert_eq!(WarningTimes::default().take_due(&identity, now, clock), []);
        let later = clock + Duration::from_hours(48);
        assert_eq!(
            WarningTimes::default().take_due(&identity, now, later),
            [Warning::RevocationsStale]
        );
    }

    #[test]
    fn the_end_is_near_in_the_last_quarter_but_never_more_than_a_day_before() {
        let near = |lifetime: Duration, remaining: Duration| {
            let identity = identity(lifetime);
            expires_soon(&identity, identity.not_after - remaining)
        };
        let minute = Duration::from_mins(1);
        let day = Duration::from_hours(24);
        assert!(near(90 * day, 23 * 60 * minute));
        assert!(!near(90 * day, 25 * 60 * minute));
        assert!(near(60 * minute, 10 * minute));
        assert!(!near(60 * minute, 20 * minute));
    }
}
