//! WHEP from the viewer's side: an offer as Chromium writes it, and what the answer says.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use laterna::session::engine::{LocalTransport, RemoteTransport};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// The id of the transport-wide sequence number in the offers.
pub const TRANSPORT_CC: u8 = 3;
/// The payload type of sound in the offers.
pub const OPUS: u8 = 111;

/// What an answer says.
#[derive(Debug)]
pub struct Answer {
    /// The daemon's transport; candidates on loopback alone.
    pub remote: RemoteTransport,
    /// SSRC of the media.
    pub ssrc: u32,
}

/// A request that is under way.
pub struct Post {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Post {
    /// Posts an offer from a local address.
    pub fn begin(from: IpAddr, to: SocketAddr, code: Option<&str>, offer: &str) -> std::io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
        rustix::net::connect(&socket, &to)?;
        let mut stream = TcpStream::from(socket);
        let mut head =
            format!("POST /whep HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Type: application/sdp\r\n");
        if let Some(code) = code {
            let _ = write!(head, "Authorization: Bearer {code}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n{offer}", offer.len());
        stream.write_all(head.as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, response: Vec::new() })
    }

    /// The connection, to wait for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads what has come; once that is the whole, what it says.
    pub fn handle_readable(&mut self) -> Option<Result<Answer, String>> {
        let mut chunk = [0; 8192];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => self.response.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error.to_string())),
            }
        }
        let text = String::from_utf8_lossy(&self.response);
        if !text.starts_with("HTTP/1.1 201") {
            return Some(Err(text.into_owned()));
        }
        Some(answer(&text).ok_or_else(|| format!("an answer that lacks something: {text}")))
    }
}

/// An offer that only receives: video, and sound where `hears`.
pub fn offer(local: &LocalTransport, fingerprint: &[u8; 32], address: SocketAddr, hears: bool) -> String {
    let hash: Vec<_> = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
    let (hash, LocalTransport { ufrag, password }) = (hash.join(":"), local);
    let (ip, port) = (address.ip(), address.port());
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=candidate:1 1 udp 2113937151 {ip} {port} typ host\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=ice-options:trickle\r\n\
         a=fingerprint:sha-256 {hash}\r\na=setup:actpass\r\na=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
    );
    let group = if hears { "0 1" } else { "0" };
    let mut out = format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {group}\r\n\
         a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=video 9 UDP/TLS/RTP/SAVPF 106 107\r\n{transport}a=mid:0\r\n\
         a=extmap:{TRANSPORT_CC} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
         a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\na=rtpmap:106 H264/90000\r\n"
    );
    for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
        let _ = write!(out, "a=rtcp-fb:106 {feedback}\r\n");
    }
    out += "a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
            a=rtpmap:107 rtx/90000\r\na=fmtp:107 apt=106\r\n";
    if hears {
        let _ =
            write!(out, "m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\n{transport}a=mid:1\r\na=rtpmap:{OPUS} opus/48000/2\r\n");
        let _ = write!(out, "a=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n");
    }
    out
}

fn answer(text: &str) -> Option<Answer> {
    let values = |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name));
    let hash = values("a=fingerprint:sha-256 ").next()?;
    let hash: Vec<u8> = hash.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
    let remote = RemoteTransport {
        ufrag: values("a=ice-ufrag:").next()?.to_owned(),
        password: values("a=ice-pwd:").next()?.to_owned(),
        fingerprints: vec![hash.try_into().ok()?],
        dtls_client: values("a=setup:").next()? == "passive",
        candidates: values("a=")
            .filter(|v| v.starts_with("candidate:") && v.contains(" 127.0.0.1 "))
            .map(Into::into)
            .collect(),
    };
    // The section of the video comes first, as offered.
    let ssrc = values("a=ssrc:").next()?.split(' ').next()?.parse().ok()?;
    Some(Answer { remote, ssrc })
}
