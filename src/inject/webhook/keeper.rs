//! Keeps the certificate and the trust in it right: every replica serves what the Secret (or the
//! folder) holds and looks whether API servers believe it; the leader does the steps of
//! [`super::rotation`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::certificate::{Kept, Pair};
use super::cluster::{Cluster, ClusterError, encoded};
use super::configuration::{Configuration, Hook};
use super::metrics::Metrics;
use super::rotation::{self, Pace, Step, Trust};
use super::tls::{Served, believes};
use crate::identity::Identity;

/// How often to look, at most.
const LOOK: Duration = Duration::from_secs(2);
/// The most steps of one look; the next look goes on.
const STEPS_MAX: usize = 8;
/// The largest bundle that is read from a folder, in bytes.
const BUNDLE_MAX_BYTES: u64 = 256 * 1024;

/// Where the certificate comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// It is made here, and kept in the Secret of this name in our namespace.
    Own {
        /// The Secret.
        secret: String,
        /// How it is turned over.
        pace: Pace,
    },
    /// It is somebody else's business.
    Folder {
        /// What the folder holds, as it changes.
        identity: watch::Receiver<Arc<Identity>>,
        /// Its `ca.crt`.
        ca: PathBuf,
    },
}

/// Keeps it.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The API server.
    pub cluster: Cluster,
    /// The name of the configuration.
    pub configuration: String,
    /// Where the certificate comes from.
    pub source: Source,
    /// What is served.
    pub served: Served,
    /// Whether we lead.
    pub leads: watch::Receiver<bool>,
    /// Where what was found is told.
    pub found: watch::Sender<Found>,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// What the last look found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The configuration.
    pub configuration: Option<Arc<Configuration>>,
    /// What is wrong; nothing, if API servers believe us.
    pub trouble: Option<String>,
}

impl Found {
    /// Before the first look, which is when nobody may be told that we are ready.
    pub(super) fn nothing() -> Self {
        Self { configuration: None, trouble: Some("nothing is known yet".to_owned()) }
    }
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{0}")]
    Other(String),
}

/// Since when the bundle is what it is.
type Seen = Option<(String, Instant)>;

impl Keeper {
    /// Looks, again and again. Never returns; drop it to stop it.
    pub(super) async fn run(mut self) {
        let pause = match &self.source {
            Source::Own { pace, .. } => LOOK.min(pace.margin / 2),
            Source::Folder { .. } => LOOK,
        };
        let mut seen = None;
        loop {
            // Whatever the API server says or does not: one that is over is of no use.
            if self.served.not_after().is_none_or(|end| end <= SystemTime::now())
                && let Source::Folder { identity, .. } = &self.source
            {
                self.served.set(identity.borrow().certified_key());
            }
            let (configuration, trouble) = match self.look(&mut seen).await {
                Ok(configuration) => {
                    let trouble = doubt(&configuration, &self.served.get());
                    (Some(Arc::new(configuration)), trouble)
                }
                Err(trouble) => {
                    if matches!(trouble, Trouble::Cluster(_)) {
                        self.metrics.cluster_failures.inc();
                    }
                    (self.found.borrow().configuration.clone(), Some(trouble.to_string()))
                }
            };
            self.tell(configuration, trouble);
            let woken = async {
                if self.leads.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = woken => {}
            }
        }
    }

    fn tell(&self, configuration: Option<Arc<Configuration>>, trouble: Option<String>) {
        let before = self.found.borrow().trouble.clone();
        match &trouble {
            Some(trouble) if before.as_ref() != Some(trouble) => {
                tracing::warn!(trouble, "API servers may not believe us");
            }
            None if before.is_some() => tracing::info!("API servers believe us"),
            _ => {}
        }
        self.metrics.trusted.set(i64::from(trouble.is_none()));
        self.metrics.set_not_after(self.served.not_after());
        self.found.send_replace(Found { configuration, trouble });
    }

    /// Reads, serves what is to be served, and does what is to be done.
    async fn look(&self, seen: &mut Seen) -> Result<Configuration, Trouble> {
        for _ in 0..STEPS_MAX {
            let configuration = self.read().await?;
            let done = match &self.source {
                Source::Own { secret, pace } => {
                    self.own(&configuration, secret, *pace, seen).await?
                }
                Source::Folder { identity, ca } => {
                    let newest = identity.borrow().certified_key();
                    self.folder(&configuration, &newest, ca).await?
                }
            };
            if !done {
                return Ok(configuration);
            }
        }
        self.read().await
    }

    async fn read(&self) -> Result<Configuration, Trouble> {
        let found = self.cluster.find(&self.configuration_path()).await?;
        let found = found.ok_or_else(|| {
            Trouble::Other(format!(
                "there is no MutatingWebhookConfiguration `{}`; expected the one that names us \
                 (hint: apply it, or correct \
                 `--configuration`)",
                self.configuration
            ))
        })?;
        let configuration = Configuration::new(found);
        if configuration.hooks().next().is_none() {
            let name = &self.configuration;
            return Err(Trouble::Other(format!(
                "the MutatingWebhookConfiguration `{name}` has no `webhooks`"
            )));
        }
        Ok(configuration)
    }

    /// One step of the certificate of our own; whether something was done.
    async fn own(
        &self,
        read: &Configuration,
        name: &str,
        pace: Pace,
        seen: &mut Seen,
    ) -> Result<bool, Trouble> {
        let secret = self.cluster.find(&self.secret_path(name)).await?;
        let kept = secret.as_ref().map(Kept::read).unwrap_or_default();
        if let Some(key) = kept.current.as_ref().and_then(Pair::certified_key)
            && key.cert != self.served.get().cert
        {
            self.served.set(key);
            tracing::info!(not_after = ?kept.current.as_ref().map(|pair| humantime::format_rfc3339_seconds(pair.not_after).to_string()), "a new certificate is served");
        }
        if !*self.leads.borrow() {
            *seen = None;
            return Ok(false);
        }
        let names = read.names();
        if names.is_empty() {
            let said = "no webhook of the configuration has a `clientConfig` that names us; \
                        expected a `service` or a `url`";
            return Err(Trouble::Other(said.to_owned()));
        }
        let now = SystemTime::now();
        let step = rotation::next(&kept, trust_of(read, &kept, seen), &names, now, pace);
        let kept = match step {
            Step::Wait => return Ok(false),
            Step::Bundle => return self.write_bundle(read, &kept.bundle()).await,
            Step::MakeCurrent => {
                Kept { current: Some(self.make(&names, pace)?), next: None, ..kept }
            }
            Step::MakeNext => Kept { next: Some(self.make(&names, pace)?), ..kept },
            Step::Promote => kept.promoted(),
            Step::Forget => kept.forgetting(now),
        };
        tracing::info!(?step, "the certificate is turned over");
        self.write_secret(name, secret.as_ref(), &kept).await
    }

    fn make(
        &self,
        names: &std::collections::BTreeSet<String>,
        pace: Pace,
    ) -> Result<Pair, Trouble> {
        self.metrics.certificates.inc();
        Pair::make(names, SystemTime::now(), pace.lifetime)
            .map_err(|error| Trouble::Other(error.to_string()))
    }

    async fn write_secret(
        &self,
        name: &str,
        there: Option<&Value>,
        kept: &Kept,
    ) -> Result<bool, Trouble> {
        let secret = kept.write(there, name, self.cluster.namespace());
        let written = match there {
            Some(_) => self.cluster.replace(&self.secret_path(name), &secret).await,
            None => self.cluster.create(&self.secrets(), &secret).await,
        };
        taken(written)
    }

    /// One step of a certificate from a folder: whoever is served is trusted until its successor
    /// is, which is served from the next look on.
    async fn folder(
        &self,
        read: &Configuration,
        newest: &Arc<CertifiedKey>,
        ca: &Path,
    ) -> Result<bool, Trouble> {
        let served = self.served.get();
        let is_news = served.cert != newest.cert;
        if is_news && (doubt(read, newest).is_none() || doubt(read, &served).is_some()) {
            tracing::info!("the certificate of the folder is served");
            self.served.set(newest.clone());
            return Ok(false);
        }
        if !*self.leads.borrow() || read.is_cert_managers() {
            return Ok(false);
        }
        let Some(mut bundle) = read_bundle(ca).await? else { return Ok(false) };
        let doubts = |bundle: &str, key| doubt(&Configuration::new(read.with_bundle(bundle)), key);
        let trusts = |bundle: &str, key| doubts(bundle, key).is_none();
        if let Some(why) = doubts(&bundle, newest) {
            // Or a writer is between two files.
            return Err(Trouble::Other(format!(
                "`{}` is not the authority of the certificate beside it: {why}",
                ca.display()
            )));
        }
        if is_news && !trusts(&bundle, &served) {
            let before = read.hooks().find_map(Hook::bundle).unwrap_or_default();
            let before = String::from_utf8_lossy(&before).into_owned();
            // Once it is there, it stays as it is until the successor is served.
            if trusts(&before, newest) {
                return Ok(false);
            }
            bundle = format!("{}\n{}", bundle.trim_end(), before);
        }
        if read.holds(&bundle) {
            return Ok(false);
        }
        self.write_bundle(read, &bundle).await?;
        Ok(false)
    }

    async fn write_bundle(&self, read: &Configuration, bundle: &str) -> Result<bool, Trouble> {
        self.metrics.bundles.inc();
        tracing::info!(configuration = self.configuration, "the bundles are written");
        taken(self.cluster.replace(&self.configuration_path(), &read.with_bundle(bundle)).await)
    }

    fn configuration_path(&self) -> String {
        let name = encoded(&self.configuration);
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}")
    }

    fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", encoded(self.cluster.namespace()))
    }

    fn secret_path(&self, name: &str) -> String {
        format!("{}/{}", self.secrets(), encoded(name))
    }
}

/// Whoever was faster has done something: all is read again.
fn taken(written: Result<Value, ClusterError>) -> Result<bool, Trouble> {
    match written {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(true),
    }
}

/// Whether API servers trust what they should, and for how long that has been seen.
fn trust_of(read: &Configuration, kept: &Kept, seen: &mut Seen) -> Trust {
    let bundle = kept.bundle();
    if !read.holds(&bundle) {
        *seen = None;
        return Trust::Other;
    }
    let since = match seen {
        Some((same, since)) if *same == bundle => *since,
        _ => seen.insert((bundle, Instant::now())).1,
    };
    Trust::Bundle(since.elapsed())
}

/// Why an API server would not believe `key`, by the first webhook that does not.
fn doubt(configuration: &Configuration, key: &CertifiedKey) -> Option<String> {
    let now = SystemTime::now();
    configuration.hooks().find_map(|hook| {
        let name = hook.server_name().ok_or("its `clientConfig` names nobody".to_owned());
        let bundle = hook.bundle().ok_or("its `caBundle` is empty".to_owned());
        let believed = name.and_then(|name| believes(&bundle?, key, &name, now));
        believed.err().map(|why| format!("the webhook `{}`: {why}", hook.name()))
    })
}

/// The bundle of a folder; `None` where there is none.
async fn read_bundle(path: &Path) -> Result<Option<String>, Trouble> {
    use tokio::io::AsyncReadExt as _;

    let unreadable = |error: &std::io::Error| {
        Trouble::Other(format!("`{}` cannot be read: {error}", path.display()))
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut text = String::new();
    file.take(BUNDLE_MAX_BYTES)
        .read_to_string(&mut text)
        .await
        .map_err(|error| unreadable(&error))?;
    Ok(Some(text).filter(|text| text.contains("BEGIN CERTIFICATE")))
}
