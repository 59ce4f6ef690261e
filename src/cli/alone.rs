//! A dataset without a sidecar: `bfb get --domain FILE` runs the very same consumer's side in this
//! process, once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::Request;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::args::Upstreams;
use super::local::Got;
use super::{check, exit, out, serve};
use crate::bus::{self, Bus};
use crate::identity;
use crate::serve::{AllowedHosts, Consumers, KeyLog, Metrics, Reporter, Settings, Table};
use crate::sidecar::{self, Caching, Plans, StartError};

/// What is wanted.
pub(super) struct Wanted<'a> {
    pub(super) domain: &'a str,
    pub(super) key: &'a str,
    pub(super) version: Option<&'a str>,
}

/// Collects and renders it, or says why not.
pub(super) async fn get(
    file: PathBuf,
    upstreams: &Upstreams,
    wanted: &Wanted<'_>,
) -> Result<Got, ExitCode> {
    let loaded = sidecar::read_domains(&[file], upstreams.reading());
    if !loaded.problems().is_empty() {
        check::report(loaded.problems());
        return Err(exit::wrong_input());
    }
    let path = path(&loaded, wanted).map_err(|error| {
        out::error(error);
        exit::wrong_input()
    })?;
    let refused = |error: StartError| serve::refuse(&error);
    let mut registry = Registry::default();
    let tape = upstreams.tape();
    sidecar::check_tape(&tape).map_err(refused)?;
    let identity = sidecar::load_identity(upstreams.identity().as_ref()).map_err(refused)?;
    let identity = identity.map(watch::Sender::new);
    let identity_metrics = identity::Metrics::register(&mut registry);
    let shared =
        sidecar::shared(upstreams.tls(), &tape, identity.as_ref(), identity_metrics, &mut registry);
    let caching = sidecar::caching(&Caching::none(), false, None, &mut registry);
    let caches =
        Plans::new(shared, caching, Bus::alone([], bus::Metrics::default()), &mut registry)
            .update(loaded.domains());
    let metrics = Metrics::register(&mut registry);
    let table = caches.and_then(|caches| Table::new(caches, &metrics));
    let table = table.map_err(|error| refused(StartError::Shape(error.message)))?;
    let settings = Settings {
        hosts: AllowedHosts::default(),
        explain: true,
        honour_cache_control: true,
        requests_max: 1,
    };
    let table = watch::Sender::new(Arc::new(table));
    let consumers = Consumers::new(
        table.subscribe(),
        settings,
        metrics,
        Reporter::new(KeyLog::default(), None),
    );
    let request = Request::get(path).body(()).map_err(|_| exit::wrong_input())?;
    let (parts, body) = consumers.answer(request, false).await.into_parts();
    Ok(Got { status: parts.status, headers: parts.headers, body })
}

fn path(loaded: &crate::domain::Loaded, wanted: &Wanted<'_>) -> Result<String, String> {
    let (name, key) = (wanted.domain, wanted.key);
    let domain = loaded
        .domains()
        .get(name)
        .ok_or_else(|| format!("the file describes no domain `{name}`"))?;
    let version = match wanted.version {
        Some(version) => domain.versions.iter().find(|v| v.name.as_ref() == version),
        None => domain.versions.iter().rfind(|v| v.deprecated.is_none()).or(domain.versions.last()),
    };
    let version = version.ok_or_else(|| {
        format!("domain `{name}` has no version `{}`", wanted.version.unwrap_or(""))
    })?;
    let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
    Ok(version.path.text.replace("{key}", &key.to_string()))
}
