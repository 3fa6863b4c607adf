//! What is checked of a configuration before the daemon starts, and by `config check` and `doctor`.

use super::{access, steering, tls};
use crate::config::load::Loaded;
use crate::config::{ConfigError, RunConfig, TlsConfig};
use crate::control;
use crate::session::udp::local_addresses;
use crate::signaling::access::OwnNames;

/// Checks what only this machine can know of a configuration.
///
/// # Errors
/// Where a signaling server is this daemon itself.
pub fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    // Without a list of addresses, names and loopback are what is known.
    let addresses: Vec<_> = local_addresses().unwrap_or_default().into_iter().map(|address| address.ip).collect();
    let names = OwnNames::of_this_machine([]);
    loaded.refuse_own_signaling(|host| names.is_here(host, &addresses))
}

/// Checks the files that a configuration names, and the group, as far as this user may look at them: what only the daemon's own user may see, or its
/// service manager gives, is left to the daemon.
///
/// # Errors
/// What is the first that `laterna run` would refuse.
pub fn check_files(config: &RunConfig) -> anyhow::Result<()> {
    access::check(&config.tables)?;
    steering::check_files(&config.signaling)?;
    if let TlsConfig::Files { .. } = &config.tls {
        tls::open(&config.tls, &OwnNames::of_this_machine([]), crate::clock::wall_now())?;
    }
    if let Some(group) = &config.control_group {
        control::socket::check_group(group)?;
    }
    Ok(())
}
