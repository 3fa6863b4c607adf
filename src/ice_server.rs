//! `--ice-server URL`: STUN and TURN servers (RFC 7064, RFC 7065), with the options that say how to sign in.

use std::path::PathBuf;

mod account;

use crate::config::one_line;

pub use account::{Account, AccountError, IceServers, Login};

/// What a server does, and whether TLS protects the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Tells who asks its public address.
    Stun,
    /// The same by TLS.
    Stuns,
    /// Relays.
    Turn,
    /// The same by TLS.
    Turns,
}

/// What carries the messages to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// How the daemon signs in at a TURN server; secrets are in files, never in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    None,
    /// By a name and a password that last.
    LongTerm {
        /// The name.
        user: String,
        /// The file of the password.
        password_file: PathBuf,
    },
    /// By a name and a password that an SFU told.
    Told(Login),
    /// By a secret shared with the server, of which passwords are made that expire (draft-uberti-behave-turn-rest-00).
    Shared {
        /// The file of the secret.
        secret_file: PathBuf,
    },
}

/// A STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// What it does.
    pub scheme: Scheme,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What carries the messages.
    pub transport: Transport,
    /// How to sign in.
    pub credentials: Credentials,
    /// With TLS: certificates that the server's may be signed by, beside the system's (PEM).
    pub ca_file: Option<PathBuf>,
}

/// Why a text names no such server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IceServerError {
    /// Another scheme, or none.
    #[error("not a STUN or TURN server")]
    Scheme,
    /// No host, or a port that is none.
    #[error("no host and port")]
    Address,
    /// A name or a password in the URL.
    #[error("a password in a URL, where everybody can read it")]
    Password,
    /// An option that is none, or has no such value.
    #[error("the option {0} is none, or has no such value")]
    Option(String),
    /// A relay that nobody signs in at, or a name without a password's file.
    #[error("no way to sign in")]
    NoCredentials,
    /// A shared secret beside a name or a password.
    #[error("two ways to sign in")]
    TwoCredentials,
}

impl IceServer {
    /// Reads `stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp&user=NAME&password-file=PATH]` or `…&secret-file=PATH`, and both with TLS
    /// as `stuns:` and `turns:`, which take `ca-file=PATH` too. Paths and names are percent-decoded.
    ///
    /// # Errors
    /// Where it is none of these.
    pub fn parse(text: &str) -> Result<Self, IceServerError> {
        let (scheme, default_port, rest) = scheme(text).ok_or(IceServerError::Scheme)?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(IceServerError::Password);
        }
        let (host, port) = address(authority, default_port).ok_or(IceServerError::Address)?;
        let secure = matches!(scheme, Scheme::Stuns | Scheme::Turns);
        let mut transport = if secure { Transport::Tcp } else { Transport::Udp };
        let (mut user, mut password_file, mut secret_file, mut ca_file) = (None, None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let relays = matches!(scheme, Scheme::Turn | Scheme::Turns);
            match (&*name, &*value) {
                ("transport", "udp") if relays && !secure => transport = Transport::Udp,
                ("transport", "tcp") if relays => transport = Transport::Tcp,
                ("user", value) if relays && !value.is_empty() => user = Some(value.to_owned()),
                ("password-file", value) if relays && !value.is_empty() => password_file = Some(PathBuf::from(value)),
                ("secret-file", value) if relays && !value.is_empty() => secret_file = Some(PathBuf::from(value)),
                ("ca-file", value) if secure && !value.is_empty() => ca_file = Some(PathBuf::from(value)),
                ("password" | "secret" | "credential", _) => return Err(IceServerError::Password),
                (name, _) => return Err(IceServerError::Option(one_line(name))),
            }
        }
        let credentials = match (scheme, user, password_file, secret_file) {
            (Scheme::Stun | Scheme::Stuns, ..) => Credentials::None,
            (_, Some(user), Some(password_file), None) => Credentials::LongTerm { user, password_file },
            (_, None, None, Some(secret_file)) => Credentials::Shared { secret_file },
            (_, _, _, Some(_)) => return Err(IceServerError::TwoCredentials),
            _ => return Err(IceServerError::NoCredentials),
        };
        Ok(Self { scheme, host, port, transport, credentials, ca_file })
    }

    /// The TURN server of a URL as browsers take it (RFC 7065), with the login that came with it; `None` where it is something else.
    pub fn told(url: &str, login: Login) -> Option<Self> {
        let (scheme, default_port, rest) = scheme(url)?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = address(authority, default_port)?;
        let transport = match (scheme, query) {
            (Scheme::Turn, "" | "transport=udp") => Transport::Udp,
            (Scheme::Turn | Scheme::Turns, "transport=tcp") | (Scheme::Turns, "") => Transport::Tcp,
            // TURN over DTLS, which laterna does not speak, and what does not relay.
            _ => return None,
        };
        Some(Self { scheme, host, port, transport, credentials: Credentials::Told(login), ca_file: None })
    }

    /// The URL as browsers take it (RFC 7064, RFC 7065), without credentials.
    pub fn url(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        match self.scheme {
            Scheme::Stun => format!("stun:{host}:{port}"),
            Scheme::Stuns => format!("stuns:{host}:{port}"),
            Scheme::Turn => format!("turn:{host}:{port}?transport={transport}"),
            Scheme::Turns => format!("turns:{host}:{port}?transport={transport}"),
        }
    }
}

/// The scheme of a URL, its default port, and what comes after it.
fn scheme(url: &str) -> Option<(Scheme, u16, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let (scheme, port) = match scheme {
        "stun" => (Scheme::Stun, 3478),
        "turn" => (Scheme::Turn, 3478),
        "stuns" => (Scheme::Stuns, 5349),
        "turns" => (Scheme::Turns, 5349),
        _ => return None,
    };
    Some((scheme, port, rest))
}

/// Host and port of an authority, `[v6]` and the port being optional.
fn address(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port? {
        "" => default_port,
        digits => digits.parse().ok().filter(|port| *port != 0)?,
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.chars().all(is_name)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_are_read_with_their_defaults() {
        let url = |text| IceServer::parse(text).unwrap().url();
        assert_eq!(url("stun:stun.example.org"), "stun:stun.example.org:3478");
        assert_eq!(url("stuns:[2001:db8::1]:443"), "stuns:[2001:db8::1]:443");
        assert_eq!(url("turn:192.0.2.1?user=u&password-file=/p"), "turn:192.0.2.1:3478?transport=udp");
        assert_eq!(url("turns:relay:5350?secret-file=/s"), "turns:relay:5350?transport=tcp");
        let server = IceServer::parse("turn:relay?transport=tcp&user=a%20b&password-file=/run/p%26w").unwrap();
        let credentials = Credentials::LongTerm { user: "a b".to_owned(), password_file: "/run/p&w".into() };
        assert_eq!((server.transport, server.credentials), (Transport::Tcp, credentials));
        let server = IceServer::parse("turns:relay?secret-file=/s&ca-file=/run/ca.pem").unwrap();
        assert_eq!(server.ca_file, Some("/run/ca.pem".into()));
    }

    #[test]
    fn relays_that_an_sfu_names_are_read() {
        let told = |url| {
            let login = Login { username: "u".to_owned(), password: "p".to_owned() };
            IceServer::told(url, login).map(|server| (server.url(), server.credentials))
        };
        let login = Credentials::Told(Login { username: "u".to_owned(), password: "p".to_owned() });
        for (url, expected) in [
            ("turn:sfu.example.org", "turn:sfu.example.org:3478?transport=udp"),
            ("turn:[2001:db8::1]:80?transport=tcp", "turn:[2001:db8::1]:80?transport=tcp"),
            ("turns:sfu:443", "turns:sfu:443?transport=tcp"),
            ("turns:sfu:443?transport=tcp", "turns:sfu:443?transport=tcp"),
        ] {
            assert_eq!(told(url), Some((expected.to_owned(), login.clone())));
        }
        for other in
            ["stun:sfu", "stuns:sfu", "turns:sfu?transport=udp", "turn:", "turn:u@sfu", "http://sfu", "turn:sfu?x=y"]
        {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn what_names_no_server_is_refused() {
        use IceServerError as E;
        for (text, error) in [
            ("relay.example.org", E::Scheme),
            ("http://relay", E::Scheme),
            ("stun:", E::Address),
            ("stun:relay:0", E::Address),
            ("stun:relay:x", E::Address),
            ("stun:[::1", E::Address),
            ("stun://relay", E::Address),
            ("turn:me:secret@relay", E::Password),
            ("turn:relay?password=secret", E::Password),
            ("turn:relay", E::NoCredentials),
            ("turn:relay?user=u", E::NoCredentials),
            ("turn:relay?password-file=/p", E::NoCredentials),
            ("turn:relay?user=u&password-file=/p&secret-file=/s", E::TwoCredentials),
            ("turn:relay?user=u&secret-file=/s", E::TwoCredentials),
            ("turns:relay?transport=udp&secret-file=/s", E::Option("transport".to_owned())),
            ("stun:relay?user=u", E::Option("user".to_owned())),
            ("turn:relay?secret-file=/s&ca-file=/c", E::Option("ca-file".to_owned())),
        ] {
            assert_eq!(IceServer::parse(text), Err(error), "{text}");
        }
    }
}
