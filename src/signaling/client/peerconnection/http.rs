//! Requests of the protocol as they are in HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, PRAGMA};
use reqwest::{RequestBuilder, redirect};
use tokio::sync::OnceCell;
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::id::PeerId;
use crate::signaling::client::url::SignalingUrl;
use crate::signaling::client::{tls, token, why};
use crate::signaling::peerconnection::client::{Failure, MOST_REPLY, Reply, Request, Response, list};

/// How long a connection may take to stand.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long a reply may take, and the body of one to a wait.
const REPLYING: Duration = Duration::from_secs(10);
/// When a connection on which nothing comes is asked whether it still stands, and how it is asked again: a lost one is found within 30 s.
const ALIVE_AFTER: Duration = Duration::from_secs(15);
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_TRIES: u32 = 3;

/// A server, and how it is spoken to.
#[derive(Debug)]
pub struct HttpServer {
    url: SignalingUrl,
    name: String,
    /// Made anew for each sign-in: the files of the token and the certificates may have changed.
    client: Arc<OnceCell<reqwest::Client>>,
}

impl HttpServer {
    /// The server at `url`, where the daemon signs in as `name`.
    pub fn new(url: SignalingUrl, name: &str) -> Self {
        Self { url, name: name.to_owned(), client: Arc::default() }
    }

    /// Signs in under another name from the next time on.
    pub fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Sends a request, of which [`Request::SignIn`] is the first; what comes of it is to be awaited.
    pub fn send(&mut self, request: &Request) -> impl Future<Output = Reply> + Send + use<> {
        if *request == Request::SignIn {
            self.client = Arc::default();
        }
        let (cell, url, is_wait) = (Arc::clone(&self.client), self.url.clone(), matches!(request, Request::Wait(_)));
        // At the first only it may be that something else is spoken there.
        let scheme = (*request == Request::SignIn).then(|| self.url.url.scheme().to_owned());
        let (to, body) = match request {
            Request::SignIn => (self.address("sign_in", &self.sign_in()), None),
            Request::Wait(id) => (self.address("wait", &own(*id)), None),
            Request::SignOut(id) => (self.address("sign_out", &own(*id)), None),
            Request::Message { from, to, body } => {
                (self.address("message", &format!("{}&to={to}", own(*from))), Some(body.clone()))
            }
        };
        async move {
            // Files are read, and reading blocks.
            let made = async || match tokio::task::spawn_blocking(move || client(&url)).await {
                Ok(made) => made,
                Err(error) => Err(error.to_string()),
            };
            let client = cell.get_or_try_init(made).await.map_err(|why| Failure { why, was_sent: false })?;
            let prepared = match body {
                None => client.get(to),
                Some(body) => client.post(to).header(CONTENT_TYPE, "text/plain").body(body),
            };
            if is_wait {
                return exchange(prepared, None).await;
            }
            let replied = tokio::time::timeout(REPLYING, exchange(prepared, scheme.as_deref())).await;
            replied.unwrap_or_else(|_| Err(Failure { why: format!("no reply within {REPLYING:?}"), was_sent: true }))
        }
    }

    /// The query of the sign-in. The original takes it as it is for the name; others read the value of a parameter.
    fn sign_in(&self) -> String {
        let template = &self.url.sign_in;
        let is_parameter = template.split("{name}").next().is_some_and(|before| before.contains('='));
        let name = if is_parameter { byte_serialize(self.name.as_bytes()).collect() } else { self.name.clone() };
        template.replace("{name}", &name)
    }

    /// An address of the server; what its URL has as a query goes along with each request.
    fn address(&self, path: &str, query: &str) -> Url {
        let mut url = self.url.url.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        let query = match self.url.url.query() {
            Some(own) => format!("{query}&{own}"),
            None => query.to_owned(),
        };
        url.set_query(Some(&query));
        url
    }
}

/// The part of a query that says who asks.
fn own(id: PeerId) -> String {
    format!("peer_id={id}")
}

/// What makes requests as the original server needs them.
fn client(url: &SignalingUrl) -> Result<reqwest::Client, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(path) = &url.token_file {
        headers.insert(AUTHORIZATION, token::bearer(path).map_err(|error| error.to_string())?);
    }
    let tls = tls::client(url.ca_file.as_deref()).map_err(|error| error.to_string())?;
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .default_headers(headers)
        .http1_only()
        .http1_title_case_headers()
        .pool_max_idle_per_host(0)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECTING)
        .tcp_nodelay(true)
        .tcp_keepalive(ALIVE_AFTER)
        .tcp_keepalive_interval(ALIVE_EVERY)
        .tcp_keepalive_retries(ALIVE_TRIES);
    builder.build().map_err(|error| why::root(&error))
}

/// Sends a request and reads its reply, the body by its length: the original server does not close.
async fn exchange(request: RequestBuilder, scheme: Option<&str>) -> Reply {
    let failure = |error| failure(error, scheme.unwrap_or_default());
    let mut response = request.send().await.map_err(failure)?;
    let status = response.status().as_u16();
    let pragma = response.headers().get(PRAGMA).and_then(|value| list::id(value.as_bytes()));
    let mut body = Vec::new();
    let read = async {
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MOST_REPLY {
                return Ok(false);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(true)
    };
    let late = || Failure { why: format!("a reply's body did not come within {REPLYING:?}"), was_sent: true };
    let is_whole = tokio::time::timeout(REPLYING, read).await.map_err(|_| late())?.map_err(failure)?;
    Ok(Response { status, pragma, body: is_whole.then_some(body) })
}

/// Why a request to a server of this `scheme` failed, without the address: that may hold a secret, and the log line names the server.
fn failure(error: reqwest::Error, scheme: &str) -> Failure {
    let error = error.without_url();
    let why = match (error.is_connect(), error.is_timeout()) {
        (true, true) => why::unreachable_within(CONNECTING),
        (true, false) => why::not_connected(scheme, &error),
        (false, _) => {
            let hint = if why::is_no_http(&error) { why::hint_at_tls(scheme) } else { String::new() };
            format!("the connection was lost: {}{hint}", why::root(&error))
        }
    };
    Failure { why, was_sent: !error.is_connect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const ADDED: &str = "HTTP/1.1 200 Added\r\nServer: PeerConnectionTestServer/0.1\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                         Content-Length: 9\r\nPragma: 1\r\n\r\ndesk,1,1\n";

    fn on_a_runtime<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() })
    }

    /// A server that takes one request by one read, replies, and keeps the connection open, or closes it where there is no reply;
    /// gives what it read and what came of the request.
    async fn served(options: &str, name: &str, request: Request, reply: Vec<u8>) -> (String, Reply) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("peerconnection+http://{}{options}", listener.local_addr().unwrap());
        let mut server = HttpServer::new(SignalingUrl::parse(&url).unwrap(), name);
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The whole of it has to be there by the time that the first byte is.
            stream.readable().await.unwrap();
            let mut buffer = vec![0; 1 << 20];
            let count = stream.read(&mut buffer).await.unwrap();
            // Whoever has read too much may be gone.
            let _ = stream.write_all(&reply).await;
            let open = Some(stream).filter(|_| !reply.is_empty());
            (open, String::from_utf8(buffer[..count].to_vec()).unwrap())
        };
        let ((_open, read), reply) = tokio::join!(serving, server.send(&request));
        (read, reply)
    }

    #[test]
    fn a_message_goes_out_in_one_write_with_names_in_title_case() {
        on_a_runtime(async {
            for length in [5_000, 60_000] {
                let body = "x".repeat(length);
                let request = Request::Message { from: PeerId(1), to: PeerId(2), body: body.clone() };
                let done = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec();
                let (read, reply) = served("/", "desk", request, done).await;
                let (head, read_body) = read.split_once("\r\n\r\n").unwrap();
                assert_eq!(read_body.len(), length, "the body came in the same read");
                let mut lines = head.split("\r\n");
                assert_eq!(lines.next(), Some("POST /message?peer_id=1&to=2 HTTP/1.1"));
                let lines: Vec<_> = lines.collect();
                let expected = format!("Content-Length: {length}");
                for line in ["Content-Type: text/plain", "Connection: close", &expected] {
                    assert!(lines.contains(&line), "no {line} in {head}");
                }
                assert!(lines.iter().any(|line| line.starts_with("Host: 127.0.0.1:")), "{head}");
                for banned in ["Expect", "Transfer-Encoding"] {
                    assert!(!lines.iter().any(|line| line.starts_with(banned)), "{head}");
                }
                assert_eq!(reply.unwrap(), Response { status: 200, pragma: None, body: Some(Vec::new()) });
            }
        });
    }

    #[test]
    fn a_reply_is_read_by_its_length_though_the_connection_stays_open() {
        on_a_runtime(async {
            let directory = tempfile::tempdir().unwrap();
            let token = directory.path().join("token");
            std::fs::write(&token, "abc.def\n").unwrap();
            let options = format!("/k/code/?token-file={}&room=7", token.display());
            let (read, reply) = served(&options, "the desk", Request::SignIn, ADDED.into()).await;
            assert!(read.starts_with("GET /k/code/sign_in?the%20desk&room=7 HTTP/1.1\r\n"), "{read}");
            assert!(read.contains("\r\nAuthorization: Bearer abc.def\r\n"), "{read}");
            let expected = Response { status: 200, pragma: Some(PeerId(1)), body: Some(b"desk,1,1\n".to_vec()) };
            assert_eq!(reply.unwrap(), expected);
            let named = served("?sign-in=peer_name%3D{name}", "a&b @ c", Request::SignIn, ADDED.into()).await.0;
            assert!(named.starts_with("GET /sign_in?peer_name=a%26b+%40+c HTTP/1.1\r\n"), "{named}");
            let waits = served("", "desk", Request::Wait(PeerId(1)), ADDED.into()).await.0;
            assert!(waits.starts_with("GET /wait?peer_id=1 HTTP/1.1\r\n"), "{waits}");
        });
    }

    #[test]
    fn too_long_a_reply_is_not_kept_and_a_redirection_not_followed() {
        on_a_runtime(async {
            let mut long =
                format!("HTTP/1.1 200 OK\r\nPragma: 2\r\nContent-Length: {}\r\n\r\n", MOST_REPLY + 1).into_bytes();
            long.resize(long.len() + MOST_REPLY + 1, b'x');
            let (_, reply) = served("", "desk", Request::Wait(PeerId(1)), long).await;
            assert_eq!(reply.unwrap(), Response { status: 200, pragma: Some(PeerId(2)), body: None });
            let moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
            let (_, reply) = served("", "desk", Request::SignIn, moved).await;
            assert_eq!(reply.unwrap().status, 302);
        });
    }

    #[test]
    fn a_failure_says_why_and_whether_the_server_may_have_got_it() {
        on_a_runtime(async {
            let (_, reply) = served("", "desk", Request::Wait(PeerId(1)), Vec::new()).await;
            assert!(
                reply.is_err_and(|failure| failure.was_sent && failure.why.starts_with("the connection was lost: "))
            );
            let alert = b"\x15\x03\x01\x00\x02\x02\x46".to_vec();
            for said in [alert, Vec::new()] {
                let (_, reply) = served("", "desk", Request::SignIn, said).await;
                let why = reply.unwrap_err().why;
                assert!(why.ends_with("; if it speaks TLS, write https"), "{why}");
            }
            let url = |text: &str| SignalingUrl::parse(text).unwrap();
            let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = plain.local_addr().unwrap();
            let mut secure = HttpServer::new(url(&format!("peerconnection+https://{address}")), "desk");
            let serving = async {
                let (mut stream, _) = plain.accept().await.unwrap();
                let count = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                (stream, count)
            };
            let (_, reply) = tokio::join!(serving, secure.send(&Request::SignIn));
            let why = reply.unwrap_err().why;
            assert!(
                why.starts_with("it can't be reached: ") && why.ends_with("; if it speaks no TLS, write http"),
                "{why}"
            );
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let refused = HttpServer::new(url(&format!("peerconnection+http://{closed}?secret=1")), "desk");
            let missing =
                HttpServer::new(url("peerconnection+http://127.0.0.1:1?token-file=/nonexistent/token"), "desk");
            for (mut server, words) in [(refused, "Connection refused"), (missing, "/nonexistent/token")] {
                let failure = server.send(&Request::SignIn).await.unwrap_err();
                assert!(!failure.was_sent && failure.why.contains(words), "{failure:?}");
                assert!(!failure.why.contains("secret"), "{failure:?}");
            }
        });
    }
}
