//! What was written → a valid configuration, or all that is wrong with it.

use std::vec::IntoIter;

use super::setting::Setting;
use super::tables::Tables;
use super::written::{Asked, Written};
use super::{ConfigError, RunConfig, TlsConfig, value};

impl RunConfig {
    /// Resolves what was written; `hostname` completes the default name.
    ///
    /// # Errors
    /// All values that their settings can't have.
    pub fn resolve(written: &Written, hostname: &str) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader { written, errors: Vec::new() };
        let config = reader.config(hostname);
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            _ => Err(reader.errors),
        }
    }
}

/// Reads one setting after the other and keeps what is wrong.
struct Reader<'a> {
    written: &'a Written,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// Reads all before it gives up; of what is invalid nothing is made.
    fn config(&mut self, hostname: &str) -> Option<RunConfig> {
        let source = self.one("source", value::source);
        let fallback = self.one("fallback", value::fallback);
        let name = self.one("name", value::name).unwrap_or_else(|| format!("laterna@{hostname}"));
        let listen = self.list("listen", value::listen);
        let udp_port = self.one("udp-port", value::udp_port);
        let codecs = self.list("codec", value::codecs);
        let bitrate = self.one("bitrate", value::bitrate);
        let fps = self.one("fps", value::fps);
        let size = self.one("size", value::size);
        let fit = self.one("fit", value::fit);
        let pointer = self.one("cursor", value::cursor);
        let capture = self.one("capture", value::capture);
        let max_viewers = self.one("max-viewers", value::max_viewers);
        let code_file = self.one("auth-code-file", value::path);
        let auth = self.one("auth", |asked| value::auth(asked, code_file));
        let tls = self.tls();
        let room = self.one("room", value::room);
        let call = self.one("call", value::call);
        let signaling = self.each("signaling", value::signaling);
        let ice_servers = self.each("ice-server", value::ice_server);
        let public_ips = self.list("public-ip", value::public_ips);
        let networks = self.list("network", value::networks);
        let audio = self.one("audio", value::audio);
        let sync = self.one("sync", value::sync);
        let control = self.one("control", value::path);
        let control_group = self.one("control-group", value::group);
        let origins = self.list("allow-origin", value::origins);
        let log = self.one("log", value::log);
        Some(RunConfig {
            source: source?,
            fallback,
            name,
            listen: listen?,
            udp_port: udp_port?,
            codecs: codecs?,
            bitrate: bitrate?,
            fps: fps?,
            size,
            fit: fit?,
            pointer: pointer?,
            capture: capture?,
            max_viewers: max_viewers?,
            auth: auth?,
            tls: tls?,
            sync: sync?,
            room: room?,
            call: call?,
            audio: audio?,
            signaling,
            ice_servers,
            public_ips: public_ips?,
            networks: networks?,
            control,
            control_group,
            origins: origins?,
            log: log?,
            tables: Tables::default(),
        })
    }

    /// Certificate and key, which go together, or one that signs itself.
    fn tls(&mut self) -> Option<TlsConfig> {
        let (certificate, key) = (self.values("tls-cert").pop(), self.values("tls-key").pop());
        let both = match (&certificate, &key) {
            (Some(asked), None) => Err(asked.clone().invalid("a certificate without its key", "give tls-key as well")),
            (None, Some(asked)) => Err(asked.clone().invalid("a key without its certificate", "give tls-cert as well")),
            _ => Ok(()),
        };
        both.map_err(|error| self.errors.push(error)).ok()?;
        let (certificate, key) = (self.one("tls-cert", value::path), self.one("tls-key", value::path));
        self.one("tls", |asked| value::tls(asked, certificate.zip(key)))
    }

    fn values(&self, key: &str) -> Vec<Asked> {
        Setting::of(key).map(|setting| self.written.given(setting).values).unwrap_or_default()
    }

    /// Reads a setting with one value; `None` where there is none, or it is wrong.
    fn one<T>(&mut self, key: &str, read: impl FnOnce(Asked) -> Result<T, ConfigError>) -> Option<T> {
        let asked = self.values(key).pop()?;
        read(asked).map_err(|error| self.errors.push(error)).ok()
    }

    /// Reads a list whose values mean something together; without those that were refused it is read again, so that all are found.
    fn list<T>(&mut self, key: &str, read: impl Fn(IntoIter<Asked>) -> Result<T, ConfigError>) -> Option<T> {
        let mut values = self.values(key);
        loop {
            let error = match read(values.clone().into_iter()) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let refused = values.iter().position(|asked| Some(asked) == error.asked());
            self.errors.push(error);
            values.remove(refused?);
        }
    }

    /// Reads a list whose values stand for themselves; the same one twice counts once.
    fn each<T: PartialEq>(&mut self, key: &str, read: impl Fn(Asked) -> Result<T, ConfigError>) -> Vec<T> {
        let mut values = Vec::new();
        for asked in self.values(key) {
            match read(asked) {
                Ok(value) if values.contains(&value) => {}
                Ok(value) => values.push(value),
                Err(error) => self.errors.push(error),
            }
        }
        values
    }
}
