//! How the bus reaches Redis: the servers that a URL names, the credentials, TLS, the namespace and
//! the terms of the lease. The files of credentials and certificates are read again whenever a
//! connection is made, so that they may rotate.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::endpoint::Endpoint;
use super::fault::RedisFault;
use crate::resources::read_at_most;

/// The most bytes of a file: more than any password, key or list of authorities takes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// How the bus reaches Redis, and the terms of its leases.
#[derive(Clone)]
pub struct BusConfig {
    /// The servers.
    pub servers: RedisServers,
    /// A file with `user:password`, or with a password alone.
    pub auth: Option<PathBuf>,
    /// A file of the authorities that may have signed Redis's certificate; without it, the public
    /// ones.
    pub ca: Option<PathBuf>,
    /// A directory with `tls.crt` and `tls.key`, for a Redis that asks for a certificate.
    pub identity: Option<PathBuf>,
    /// The namespace, which keeps two fleets on one Redis apart.
    pub namespace: String,
    /// How long a sidecar may serve from memory without a reply from Redis.
    pub lease: Duration,
    /// How long a deposed primary may go on answering.
    pub failover_grace: Duration,
    /// The readable head of the sidecar's random name: the pod's name.
    pub label: String,
}

/// The Redis servers that a URL names.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// `redis://HOST:PORT`, `rediss://…`, `unix:///PATH`.
    One(RedisUrl),
    /// `redis-sentinel://HOST:PORT,HOST:PORT/SERVICE`, `rediss-sentinel://…`.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<RedisUrl>,
        /// The sentinels' name of the primary.
        service: String,
    },
    /// `redis-cluster://HOST:PORT,HOST:PORT`, `rediss-cluster://…`.
    Cluster(Vec<RedisUrl>),
}

/// A URL that the client understands. It may hold a password, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

/// A URL that names no Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `redis://HOST:PORT`, `rediss://…`, `unix:///PATH`, \
     `redis-sentinel://HOST:PORT,…/SERVICE` or `redis-cluster://HOST:PORT,…`"
)]
pub struct InvalidRedisUrl;

/// A file that a flag of the bus names cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("`--{flag} {}` cannot be used: {source}", file.display())]
pub struct RedisFileError {
    /// The flag that names it, without `--`.
    pub flag: &'static str,
    /// The file.
    pub file: PathBuf,
    /// The system's error.
    pub source: std::io::Error,
}

impl fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusConfig")
            .field("namespace", &self.namespace)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Sentinel { .. } => "Sentinel",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl std::str::FromStr for RedisServers {
    type Err = InvalidRedisUrl;

    fn from_str(url: &str) -> Result<Self, InvalidRedisUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidRedisUrl)?;
        match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                RedisUrl::new(url.to_owned()).map(Self::One)
            }
            "redis-sentinel" | "rediss-sentinel" => {
                let (hosts, service) =
                    rest.trim_end_matches('/').split_once('/').ok_or(InvalidRedisUrl)?;
                let sentinels = parse_hosts(scheme.trim_end_matches("-sentinel"), hosts)?;
                Ok(Self::Sentinel { sentinels, service: service.to_owned() })
            }
            "redis-cluster" | "rediss-cluster" => {
                parse_hosts(scheme.trim_end_matches("-cluster"), rest.trim_end_matches('/'))
                    .map(Self::Cluster)
            }
            _ => Err(InvalidRedisUrl),
        }
    }
}

fn parse_hosts(scheme: &str, hosts: &str) -> Result<Vec<RedisUrl>, InvalidRedisUrl> {
    hosts.split(',').map(|host| RedisUrl::new(format!("{scheme}://{host}"))).collect()
}

impl RedisUrl {
    fn new(url: String) -> Result<Self, InvalidRedisUrl> {
        url.as_str().into_connection_info().map_err(|_| InvalidRedisUrl)?;
        Ok(Self(url))
    }

    pub(super) fn info(&self) -> Result<ConnectionInfo, RedisFault> {
        Ok(self.0.as_str().into_connection_info()?)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.starts_with("rediss:")
    }
}

impl BusConfig {
    /// The configuration of these servers and this `lease`, with the defaults of everything else.
    pub fn new(servers: RedisServers, lease: Duration) -> Self {
        Self {
            servers,
            auth: None,
            ca: None,
            identity: None,
            namespace: "default".to_owned(),
            lease,
            failover_grace: Duration::ZERO,
            label: "sidecar".to_owned(),
        }
    }

    /// Opens every configured file once. They are read whenever a connection is made; a file that
    /// is missing should fail the start, not leave a fleet that never connects.
    pub(super) fn check_files(&self) -> Result<(), RedisFileError> {
        let in_identity = |name: &str| self.identity.as_ref().map(|dir| dir.join(name));
        let files = [
            ("redis-auth", self.auth.clone()),
            ("redis-ca", self.ca.clone()),
            ("redis-identity", in_identity("tls.crt")),
            ("redis-identity", in_identity("tls.key")),
        ];
        for (flag, file) in files {
            let Some(file) = file else { continue };
            let unusable = |source| RedisFileError { flag, file: file.clone(), source };
            File::open(&file).map_err(unusable)?;
        }
        Ok(())
    }

    /// Adds the current user and password.
    pub(super) fn with_credentials(
        &self,
        info: RedisConnectionInfo,
    ) -> Result<RedisConnectionInfo, RedisFault> {
        let Some((user, password)) = self.credentials()? else { return Ok(info) };
        let info = info.set_password(password);
        Ok(match user {
            Some(user) => info.set_username(user),
            None => info,
        })
    }

    /// The current user, if the file names one, and the current password.
    pub(super) fn credentials(&self) -> Result<Option<(Option<String>, String)>, RedisFault> {
        let Some(file) = &self.auth else { return Ok(None) };
        let text = String::from_utf8(read(file)?).map_err(|_| RedisFault::File(file.clone()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        Ok(Some(match text.split_once(':') {
            Some((user, password)) => {
                (Some(user.to_owned()).filter(|user| !user.is_empty()), password.to_owned())
            }
            None => (None, text.to_owned()),
        }))
    }

    /// One server, with the current certificates if it speaks TLS.
    pub(super) fn endpoint(
        &self,
        addr: ConnectionAddr,
        redis: RedisConnectionInfo,
    ) -> Result<Endpoint, RedisFault> {
        Endpoint::new(addr, with_resp3(redis), || self.tls())
    }

    /// TLS with the current certificates.
    fn tls(&self) -> Result<rustls::ClientConfig, RedisFault> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                for authority in certificates(file)? {
                    roots.add(authority).map_err(|_| RedisFault::File(file.clone()))?;
                }
            }
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots);
        let Some(dir) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let file = dir.join("tls.key");
        let unusable = |_| RedisFault::File(file.clone());
        let key = PrivateKeyDer::from_pem_slice(&read(&file)?).map_err(unusable)?;
        let certificates = certificates(&dir.join("tls.crt"))?;
        config.with_client_auth_cert(certificates, key).map_err(|_| RedisFault::File(file.clone()))
    }

    /// The current authorities, in PEM; `None` stands for the public ones.
    pub(super) fn authorities(&self) -> Result<Option<Vec<u8>>, RedisFault> {
        self.ca.as_deref().map(read).transpose()
    }
}

/// RESP3, the only protocol with pushes. The library's name is not sent, since `CLIENT SETINFO`
/// would be one more permission to give.
fn with_resp3(redis: RedisConnectionInfo) -> RedisConnectionInfo {
    redis.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name()
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, RedisFault> {
    let parsed = CertificateDer::pem_slice_iter(&read(file)?).collect::<Result<Vec<_>, _>>();
    parsed.map_err(|_| RedisFault::File(file.to_owned()))
}

fn read(file: &Path) -> Result<Vec<u8>, RedisFault> {
    read_at_most(file, FILE_MAX_BYTES).map_err(|_| RedisFault::File(file.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_server_or_a_sentinel_or_a_cluster() {
        let kind = |url: &str| url.parse().map(|servers: RedisServers| format!("{servers:?}"));
        for url in
            ["redis://localhost", "rediss://user:pass@redis:6380/1", "unix:///run/redis.sock"]
        {
            assert_eq!(kind(url).unwrap(), "One", "{url}");
        }
        assert_eq!(kind("redis-cluster://a:1,b:2").unwrap(), "Cluster");
        let sentinel: RedisServers = "rediss-sentinel://a:1,b:2/main".parse().unwrap();
        let RedisServers::Sentinel { sentinels, service } = sentinel else {
            panic!("{sentinel:?}")
        };
        assert!(sentinels.len() == 2 && sentinels[0].is_tls() && service == "main");
        for url in ["", "redis", "http://localhost", "redis-sentinel://a:1", "redis-cluster://"] {
            assert_eq!(kind(url), Err(InvalidRedisUrl), "{url}");
        }
    }

    #[test]
    fn the_file_of_credentials_holds_a_user_and_a_password_or_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth");
        let mut settings =
            BusConfig::new("redis://localhost".parse().unwrap(), Duration::from_secs(3));
        settings.auth = Some(file.clone());
        for (text, user, password) in [
            ("bfb:a:b\n", Some("bfb"), "a:b"),
            ("secret", None, "secret"),
            (":secret\r\n", None, "secret"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(
                settings.credentials().unwrap(),
                Some((user.map(str::to_owned), password.to_owned()))
            );
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(settings.credentials(), Err(RedisFault::File(file)));
    }
}
