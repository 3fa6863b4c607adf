//! Why a server is away, in words for the operator: the same whatever is spoken there.
//!
//! Pure. A server's own words are cut to a bounded line; no URL is repeated, since its query may hold a secret.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hyper::StatusCode;

use crate::config::is_shown;

/// So much of a server's own words is repeated.
const MOST_CHARACTERS: usize = 160;

/// That no connection comes about.
pub fn unreachable(why: impl fmt::Display) -> String {
    format!("it can't be reached: {why}")
}

/// That none has come about in time.
pub fn unreachable_within(most: Duration) -> String {
    format!("it can't be reached within {most:?}")
}

/// That the server refuses by `status`, with what its `body` says beside that.
pub fn refusal(status: StatusCode, body: &[u8]) -> String {
    let text = words(&String::from_utf8_lossy(body));
    // Pages are for browsers.
    let said = if text.starts_with('<') { "" } else { beside(&text, status) };
    if said.is_empty() { format!("it refuses: {status}") } else { format!("it refuses: {status}: {said}") }
}

/// What can be printed of a server's words, in one line.
pub fn words(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().filter(|c| is_shown(*c)).take(MOST_CHARACTERS).collect()
}

/// A text without the status that it begins with, as in `404: Not Found`.
fn beside(text: &str, status: StatusCode) -> &str {
    let reason = status.canonical_reason().unwrap_or_default();
    let echoes = [status.to_string(), status.as_str().to_owned(), reason.to_owned()];
    let rest = echoes.iter().find_map(|echo| after(text, echo)).unwrap_or(text);
    rest.trim_start_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '{' | '[' | '"'))
}

/// What follows the words of `start` in a text, whatever is between and after them.
fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let mut rest = text;
    for word in start.split(' ').filter(|word| !word.is_empty()) {
        let found = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
        let head = found.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word))?;
        rest = &found[head.len()..];
        if rest.starts_with(char::is_alphanumeric) {
            return None;
        }
    }
    Some(rest).filter(|rest| rest.len() < text.len())
}

/// What to try where an answer was no HTTP: the URL may say `ws` to a server that speaks TLS.
pub fn hint_at_tls(scheme: &str) -> String {
    match scheme {
        "http" | "ws" => format!("; if it speaks TLS, write {scheme}s"),
        _ => String::new(),
    }
}

/// That TLS with a server of this `scheme` fails, and what to do.
pub fn no_tls(scheme: &str, error: &(dyn Error + 'static)) -> String {
    certificate(error).unwrap_or_else(|| format!("TLS with it fails: {}{}", root(error), hint_at_none(scheme, error)))
}

/// That an HTTP client reached no server by a URL of this `scheme`, and what to do.
pub fn not_connected(scheme: &str, error: &(dyn Error + 'static)) -> String {
    certificate(error).unwrap_or_else(|| unreachable(root(error)) + &hint_at_none(scheme, error))
}

/// That a server's certificate is not accepted, and why, where that is what is wrong.
fn certificate(error: &(dyn Error + 'static)) -> Option<String> {
    use rustls::CertificateError as E;
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        let why = match why {
            E::UnknownIssuer | E::BadSignature => {
                "nobody whom this machine trusts has signed it, or it was made anew since; name the signer's file with ca-file=".to_owned()
            }
            E::Expired | E::ExpiredContext { .. } => "it has expired".to_owned(),
            E::NotValidForName | E::NotValidForNameContext { .. } => "it is for another name than the URL's".to_owned(),
            // rustls has no name of its own for this one.
            E::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "it is one that signs others (CA:TRUE); make the server's own with basicConstraints=CA:FALSE, and name it with ca-file= where it signs itself".to_owned()
            }
            other => other.to_string(),
        };
        return Some(format!("its certificate is not accepted: {why}"));
    }
    // An I/O error does not name the one inside as its source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.and_then(|inner| certificate(inner)).or_else(|| error.source().and_then(certificate))
}

/// What to try where TLS failed: the server may speak none.
fn hint_at_none(scheme: &str, error: &(dyn Error + 'static)) -> String {
    match scheme.strip_suffix('s') {
        Some(plain @ ("http" | "ws" | "turn")) if is_no_tls(error) => format!("; if it speaks no TLS, write {plain}"),
        _ => String::new(),
    }
}

/// Whether what came was no TLS.
fn is_no_tls(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidMessage(_));
    }
    // An I/O error does not name the one inside as its source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| is_no_tls(inner)) || error.source().is_some_and(is_no_tls)
}

/// Whether a client of HTTP got something else, or nothing, for an answer.
pub fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    let own = error.downcast_ref::<hyper::Error>();
    own.is_some_and(|error| error.is_parse() || error.is_incomplete_message()) || error.source().is_some_and(is_no_http)
}

/// What an error was caused by in the end.
pub fn root(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_each_thing_once() {
        for (status, body, expected) in [
            (404, "404: Not Found", "404 Not Found"),
            (404, "Not Found\n", "404 Not Found"),
            (404, "not found: no such room", "404 Not Found: no such room"),
            (404, "404 - no such room", "404 Not Found: no such room"),
            (404, "4041 rooms", "404 Not Found: 4041 rooms"),
            (404, "Nothing Found", "404 Not Found: Nothing Found"),
            (404, "<!DOCTYPE html><h1>404</h1>", "404 Not Found"),
            (403, "{\"error\":\"no\r\n\ttoken\"}", "403 Forbidden: {\"error\":\"no token\"}"),
            (401, "", "401 Unauthorized"),
            (401, "\u{1b}[31mé\u{202e}", "401 Unauthorized: [31mé"),
            (599, "ü", "599 <unknown status code>: ü"),
        ] {
            let Ok(status) = StatusCode::from_u16(status) else { panic!("{status}") };
            assert_eq!(refusal(status, body.as_bytes()), format!("it refuses: {expected}"), "{body}");
        }
        assert!(refusal(StatusCode::OK, &[b'x'; 5000]).len() < 200);
    }

    #[test]
    fn the_other_scheme_is_named_where_it_may_be_meant() {
        let corrupt = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let corrupt = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, corrupt));
        assert_eq!(hint_at_none("wss", &corrupt), "; if it speaks no TLS, write ws");
        assert_eq!(hint_at_none("https", &corrupt), "; if it speaks no TLS, write http");
        assert_eq!(hint_at_none("turns", &corrupt), "; if it speaks no TLS, write turn");
        assert_eq!(hint_at_none("http", &corrupt), "");
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(hint_at_none("https", &io::Error::other(expired.clone())), "");
        assert_eq!(no_tls("https", &io::Error::other(expired)), "its certificate is not accepted: it has expired");
        assert!(no_tls("wss", &corrupt).ends_with("; if it speaks no TLS, write ws"), "{}", no_tls("wss", &corrupt));
        assert_eq!(
            (hint_at_tls("ws"), hint_at_tls("https")),
            ("; if it speaks TLS, write wss".to_owned(), String::new())
        );
    }
}
