//! `--signaling URL`: the scheme names the protocol, the options are ours, the rest is the server's.

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::signaling::peers::CallPolicy;

/// What is so long and has a digit may be a key.
const KEY_LENGTH: usize = 16;

/// The protocols that the daemon speaks as a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// libwebrtc's peerconnection_server (HTTP).
    PeerConnection,
    /// MDN's video-offer/video-answer chat server (WebSocket).
    Mdn,
    /// The 'stream ok' flow of socket.io pages (WebSocket).
    SocketIo,
    /// The W3C examples' SignalingChannel (WebSocket).
    Channel,
    /// WHIP, which publishes to an SFU (HTTP).
    Whip,
}

impl Protocol {
    const ALL: [Self; 5] = [Self::PeerConnection, Self::Mdn, Self::SocketIo, Self::Channel, Self::Whip];

    /// Its name in a URL's scheme.
    pub fn name(self) -> &'static str {
        match self {
            Self::PeerConnection => "peerconnection",
            Self::Mdn => "mdn",
            Self::SocketIo => "socketio",
            Self::Channel => "channel",
            Self::Whip => "whip",
        }
    }

    /// Whether a URL of this protocol may have an option of laterna's own; all have `token-file` and `ca-file`.
    fn has_option(self, option: &str) -> bool {
        match option {
            "call" => self != Self::Whip,
            "sign-in" => self == Self::PeerConnection,
            _ => true,
        }
    }

    fn transports(self) -> [&'static str; 2] {
        match self {
            Self::PeerConnection | Self::SocketIo | Self::Whip => ["http", "https"],
            Self::Mdn | Self::Channel => ["ws", "wss"],
        }
    }
}

/// A signaling server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalingUrl {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where: `http`, `https`, `ws` or `wss`, without laterna's own options.
    pub url: Url,
    /// Whom the daemon calls there; `None` is what `--call` says.
    pub call: Option<CallPolicy>,
    /// The file of the bearer token.
    pub token_file: Option<PathBuf>,
    /// The file of the certificates (PEM) that the server's is signed with, beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The query of `peerconnection`'s sign-in, with `{name}` for the name.
    pub sign_in: String,
    /// Which it is of those that [`SignalingUrl::label`] would call the same: by [`SignalingUrl::number`].
    pub number: usize,
}

/// Why a text is no URL of a signaling server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalingUrlError {
    /// It is no URL at all.
    #[error("not a URL")]
    NotUrl,
    /// No protocol of that name.
    #[error("no such protocol")]
    Protocol,
    /// It has a name or a password in it.
    #[error("a password in a URL, where everybody can read it")]
    Credentials,
    /// An option's value is none.
    #[error("the option {0} has no such value")]
    Option(&'static str),
    /// An option that this protocol has not.
    #[error("{protocol} has no option {option}, which is of {}", names(.of))]
    OtherProtocols {
        /// The option.
        option: &'static str,
        /// The protocol.
        protocol: &'static str,
        /// Those that have it.
        of: Vec<Protocol>,
    },
}

fn names(protocols: &[Protocol]) -> String {
    protocols.iter().map(|protocol| protocol.name()).collect::<Vec<_>>().join(", ")
}

impl SignalingUrl {
    /// Reads a URL as [`SignalingUrl`] has it; laterna's options are taken out of the query.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, SignalingUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(SignalingUrlError::NotUrl)?;
        let (protocol, transport) = scheme.split_once('+').ok_or(SignalingUrlError::Protocol)?;
        let known = Protocol::ALL.into_iter().find(|known| known.name() == protocol);
        let protocol = known.ok_or(SignalingUrlError::Protocol)?;
        if !protocol.transports().contains(&transport) {
            return Err(SignalingUrlError::Protocol);
        }
        let mut url = Url::parse(&format!("{transport}:{rest}")).map_err(|_| SignalingUrlError::NotUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SignalingUrlError::Credentials);
        }
        url.set_fragment(None);
        let (mut call, mut token_file, mut ca_file, mut sign_in) = (None, None, None, "{name}".to_owned());
        let path = |value: &str, option| match value {
            "" => Err(SignalingUrlError::Option(option)),
            value => Ok(Some(PathBuf::from(value))),
        };
        let mut kept = Vec::new();
        for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
            let Some((name, value)) = decoded else { continue };
            let own = ["call", "sign-in"].into_iter().find(|own| *own == name && !protocol.has_option(own));
            if let Some(option) = own {
                let of = Protocol::ALL.into_iter().filter(|known| known.has_option(option)).collect();
                return Err(SignalingUrlError::OtherProtocols { option, protocol: protocol.name(), of });
            }
            match &*name {
                "call" => call = Some(CallPolicy::parse(&value).ok_or(SignalingUrlError::Option("call"))?),
                "token-file" => token_file = path(&value, "token-file")?,
                "ca-file" => ca_file = path(&value, "ca-file")?,
                "sign-in" if !value.contains("{name}") => return Err(SignalingUrlError::Option("sign-in")),
                "sign-in" => sign_in = value.into_owned(),
                _ => kept.push(pair.to_owned()),
            }
        }
        url.set_query(Some(kept.join("&").as_str()).filter(|query| !query.is_empty()));
        Ok(Self { protocol, url, call, token_file, ca_file, sign_in, number: 1 })
    }

    /// Tells it from those `others` that look the same: as the second, the third…
    pub fn number_beside<'a>(&mut self, others: impl Iterator<Item = &'a Self>) {
        let place = self.place();
        let taken: Vec<_> = others.filter(|url| url.place() == place).map(|url| url.number.max(1)).collect();
        self.number = (1..).find(|number| !taken.contains(number)).unwrap_or(1);
    }

    /// What it is called in logs and by the operator: protocol, host, port and [`shown_path`], with a number from the second on that these are the same of;
    /// its query may hold a secret.
    pub fn label(&self) -> Arc<str> {
        match self.number {
            0 | 1 => self.place().into(),
            number => format!("{} #{number}", self.place()).into(),
        }
    }

    fn place(&self) -> String {
        let url = &self.url;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = url.host_str().unwrap_or_default();
        format!("{}+{}://{host}{port}{}", self.protocol.name(), url.scheme(), shown_path(url.path()))
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        matches!(self.url.scheme(), "https" | "wss")
    }
}

/// A path without what may be a secret: the code of another laterna's room, and the long keys that SFUs have in their paths.
pub fn shown_path(path: &str) -> String {
    let mut before = "";
    let shown = path.split('/').map(|part| {
        let is_key = part.len() >= KEY_LENGTH && part.contains(|c: char| c.is_ascii_digit());
        let is_code = std::mem::replace(&mut before, part) == "k" && !part.is_empty();
        match (is_code, is_key) {
            (true, _) => "…".to_owned(),
            (false, true) => part.chars().take(4).chain(['…']).collect(),
            (false, false) => part.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_taken_out_and_the_rest_is_the_servers() {
        let text = "peerconnection+http://h:8888/base?sign-in=peer_name%3D{name}&x=1&call=glob:s-*&token-file=/run/t";
        let url = SignalingUrl::parse(text).unwrap();
        assert_eq!((url.protocol, url.url.as_str()), (Protocol::PeerConnection, "http://h:8888/base?x=1"));
        assert_eq!((url.sign_in.as_str(), url.call), ("peer_name={name}", CallPolicy::parse("glob:s-*")));
        assert_eq!(url.token_file, Some(PathBuf::from("/run/t")));
        let url = SignalingUrl::parse("mdn+wss://h/chat?room=secret").unwrap();
        assert_eq!((&*url.label(), url.url.as_str()), ("mdn+wss://h/chat", "wss://h/chat?room=secret"));
        for (text, label) in [
            ("peerconnection+http://h:8888/k/abc", "peerconnection+http://h:8888/k/…"),
            ("whip+https://[::1]:8/live/room-12/whip", "whip+https://[::1]:8/live/room-12/whip"),
            ("whip+https://h/67dfa83bc01e9d/webRTC", "whip+https://h/67dfa83bc01e9d/webRTC"),
            ("whip+https://h/67dfa83bc01e9d02/webRTC", "whip+https://h/67df…/webRTC"),
            ("whip+https://h/a-room-without-numbers", "whip+https://h/a-room-without-numbers"),
        ] {
            assert_eq!(&*SignalingUrl::parse(text).unwrap().label(), label);
        }
        assert!(url.is_secure());
    }

    #[test]
    fn servers_that_look_the_same_have_a_number() {
        let texts =
            ["mdn+ws://h/?a=1", "mdn+ws://o/", "mdn+ws://h/?token-file=/b", "channel+ws://h/", "mdn+ws://h/?a=1"];
        let mut urls: Vec<SignalingUrl> = Vec::new();
        let mut add = |at: usize, text| {
            let mut url = SignalingUrl::parse(text).unwrap();
            url.number_beside(urls.iter());
            urls.insert(at, url);
            urls.iter().map(|url| url.label().to_string()).collect::<Vec<_>>()
        };
        let labels = texts.into_iter().enumerate().map(|(at, text)| add(at, text)).last().unwrap();
        let expected = ["mdn+ws://h/", "mdn+ws://o/", "mdn+ws://h/ #2", "channel+ws://h/", "mdn+ws://h/ #3"];
        assert_eq!(labels, expected);
        urls.remove(2);
        let mut again = SignalingUrl::parse(texts[2]).unwrap();
        again.number_beside(urls.iter());
        assert_eq!(&*again.label(), expected[2], "the number that is free is taken");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        use SignalingUrlError as E;
        for (text, error) in [
            ("", E::NotUrl),
            ("http://h", E::Protocol),
            ("moon+http://h", E::Protocol),
            ("mdn+http://h", E::Protocol),
            ("whip+ws://h", E::Protocol),
            ("mdn+ws://", E::NotUrl),
            ("mdn+ws://me:secret@h", E::Credentials),
            ("mdn+ws://h?call=all", E::Option("call")),
            ("whip+http://h?token-file=", E::Option("token-file")),
            ("peerconnection+http://h?sign-in=me", E::Option("sign-in")),
        ] {
            assert_eq!(SignalingUrl::parse(text), Err(error), "{text}");
        }
        for (text, words) in [
            (
                "whip+http://h?call=joined",
                "whip has no option call, which is of peerconnection, mdn, socketio, channel",
            ),
            ("mdn+ws://h?sign-in={name}", "mdn has no option sign-in, which is of peerconnection"),
        ] {
            assert_eq!(SignalingUrl::parse(text).unwrap_err().to_string(), words);
        }
    }
}
