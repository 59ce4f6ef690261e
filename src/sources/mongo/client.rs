//! The driver's client of one identity generation.

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{
    AuthMechanism, ClientOptions, Credential, ReadPreference, SelectionCriteria, ServerAddress,
    TlsOptions,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::deployment::Deployment;
use super::mongo_error::server_trouble;
use crate::domain::{MongoCredential, MongoDatabase, ScramMechanism};
use crate::identity::Identity;
use crate::sources::Reason;
use crate::sources::attempt_error::AttemptError;

/// How long a connection may take to open; with the time between two looks at a server, also how
/// long one that says nothing is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is looked at: less than a query waits, so that one which could not be asked
/// for a moment is found again by those that wait.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// How long a query waits for a server that can be asked. The deadline ends it sooner.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// How many connections are opened at once.
const CONNECTING_MAX: u32 = 8;

/// A client of the driver, and what it was made with.
#[derive(Debug)]
pub(super) struct MongoClient {
    pub(super) client: Client,
    pub(super) deployment: Deployment,
    /// Of the identity; zero without TLS.
    pub(super) generation: u64,
    /// The driver may read them again for a server that it discovers.
    _files: Option<TlsFiles>,
}

impl Drop for MongoClient {
    /// Ends its connections and monitors: nobody reads with it any more.
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.clone();
            runtime.spawn(async move { client.shutdown().immediate(true).await });
        }
    }
}

impl MongoClient {
    /// Makes one; connections are opened as they are needed.
    pub(super) fn new(
        database: &MongoDatabase,
        size: NonZeroUsize,
        identity: Option<&Identity>,
    ) -> Result<Self, AttemptError> {
        let deployment = Deployment::default();
        let files = identity.map(TlsFiles::new).transpose().map_err(|_| {
            let detail = "the identity cannot be handed to its driver";
            AttemptError::inconclusive(Reason::Tls, detail)
        })?;
        let mut options = ClientOptions::default();
        let hosts = database.hosts.iter();
        let address = |(host, port): &(std::sync::Arc<str>, u16)| ServerAddress::Tcp {
            host: host.to_string(),
            port: Some(*port),
        };
        options.hosts = hosts.map(address).collect();
        options.app_name = Some("bfb".to_owned());
        options.connect_timeout = Some(CONNECT_TIMEOUT);
        options.credential = credential(&database.credential);
        options.direct_connection = database.is_direct.then_some(true);
        options.heartbeat_freq = Some(HEARTBEAT_EVERY);
        options.max_idle_time = Some(IDLE_MAX);
        options.max_pool_size = Some(u32::try_from(size.get()).unwrap_or(u32::MAX));
        options.max_connecting = Some(CONNECTING_MAX);
        options.max_adaptive_retries = Some(0);
        options.repl_set_name = database.replica_set.as_deref().map(str::to_owned);
        options.retry_reads = Some(false);
        options.retry_writes = Some(false);
        options.sdam_event_handler = Some(deployment.handler());
        options.selection_criteria =
            Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.server_selection_timeout = Some(SELECTION_TIMEOUT);
        options.tls = files.as_ref().map(|files| files.options().into());
        let client = Client::with_options(options).map_err(|error| server_trouble(&error))?;
        let generation = identity.map_or(0, |identity| identity.generation);
        Ok(Self { client, deployment, generation, _files: files })
    }
}

fn credential(credential: &MongoCredential) -> Option<Credential> {
    let mut found = Credential::default();
    match credential {
        MongoCredential::None => return None,
        MongoCredential::Password { user, password, source, mechanism } => {
            found.username = Some(user.to_string());
            found.password = Some(password.0.to_string());
            found.source = Some(source.to_string());
            found.mechanism = mechanism.map(|mechanism| match mechanism {
                ScramMechanism::Sha1 => AuthMechanism::ScramSha1,
                ScramMechanism::Sha256 => AuthMechanism::ScramSha256,
            });
        }
        MongoCredential::Certificate => {
            found.source = Some("$external".to_owned());
            found.mechanism = Some(AuthMechanism::MongoDbX509);
        }
    }
    Some(found)
}

/// Our identity as files of the driver's, which takes paths only. They are in memory: a private key
/// is written nowhere, and all is of one generation, whatever lies in the folder by now.
#[derive(Debug)]
struct TlsFiles {
    pair: File,
    authorities: File,
}

impl TlsFiles {
    fn new(identity: &Identity) -> std::io::Result<Self> {
        let pem = identity.pem();
        Ok(Self { pair: memory_file(&pem.pair)?, authorities: memory_file(&pem.authorities)? })
    }

    fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::default();
        options.ca_file_path = Some(path(&self.authorities));
        options.cert_key_file_path = Some(path(&self.pair));
        options
    }
}

fn memory_file(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"bfb-identity", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

fn path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
