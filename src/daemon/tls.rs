//! The certificate of the web page, as the configuration wants it.

use std::time::Duration;

use anyhow::Context as _;
use tracing::{info, warn};

use crate::config::TlsConfig;
use crate::session::udp::local_addresses;
use crate::signaling::access::{OwnNames, state_dir};
use crate::signaling::server::tls::{Tls, TlsFiles};

/// Opens or makes the certificate at `wall`, the time since the Unix epoch; one of the daemon's own is for `names` and the addresses that there are now.
pub(super) fn open(config: &TlsConfig, names: &OwnNames, wall: Duration) -> anyhow::Result<Option<Tls>> {
    let tls = match config {
        TlsConfig::Off => return Ok(None),
        TlsConfig::Files { certificate, key } => {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
            Tls::open(files).context("--tls-cert and --tls-key")?
        }
        TlsConfig::SelfSigned => {
            let addresses = local_addresses().unwrap_or_default();
            let addresses = addresses.iter().map(|address| address.ip.to_string());
            let names: Vec<_> = names.iter().map(str::to_owned).chain(addresses).collect();
            match state_dir().map(|dir| Tls::self_signed(&dir.join("tls.pem"), names.clone(), wall)) {
                Some(Ok(tls)) => tls,
                kept => {
                    match kept {
                        Some(Err(error)) => warn!(%error, "the certificate can't be kept: it lasts for this run"),
                        _ => warn!(
                            "there is no state directory (set HOME or STATE_DIRECTORY): the certificate lasts for this run"
                        ),
                    }
                    Tls::passing(names, wall).context("--tls self-signed")?
                }
            }
        }
    };
    info!(fingerprint = tls.fingerprint(), "the web page is encrypted");
    Ok(Some(tls))
}
