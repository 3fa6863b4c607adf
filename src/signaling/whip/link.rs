//! `Link` headers that name STUN and TURN servers (RFC 8288; RFC 9725, section 4.6).

use std::fmt;

/// So many servers are taken.
const MOST_SERVERS: usize = 16;

/// A server as a WHIP endpoint offers it, with credentials for this publication.
#[derive(Clone, PartialEq, Eq)]
pub struct OfferedServer {
    /// Its URL: `stun:`, `stuns:`, `turn:` or `turns:` (RFC 7064, RFC 7065).
    pub url: String,
    /// The name to sign in with.
    pub username: Option<String>,
    /// The password.
    pub credential: Option<String>,
}

impl fmt::Debug for OfferedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfferedServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The servers that these values of `Link` name; what is malformed, or a link of another kind, is passed over.
pub fn ice_servers<'a>(values: impl Iterator<Item = &'a str>) -> Vec<OfferedServer> {
    values.flat_map(links).filter_map(|link| server(&link)).take(MOST_SERVERS).collect()
}

/// A link: its target, and its parameters in their order.
struct Link {
    target: String,
    parameters: Vec<(String, String)>,
}

fn server(link: &Link) -> Option<OfferedServer> {
    // Of a parameter that is there twice, the first counts (RFC 8288, section 3).
    let parameter = |name: &str| link.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let is_ice = parameter("rel")?.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("ice-server"));
    let (scheme, _) = link.target.split_once(':')?;
    let known = ["stun", "stuns", "turn", "turns"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    // There are no others than passwords that anybody uses (the OAuth of RFC 7635).
    let by_password = parameter("credential-type").is_none_or(|kind| kind.eq_ignore_ascii_case("password"));
    let owned = |name| parameter(name).map(str::to_owned);
    let server =
        OfferedServer { url: link.target.clone(), username: owned("username"), credential: owned("credential") };
    (is_ice && known && by_password).then_some(server)
}

/// Reads one value: links with commas between them.
fn links(value: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for text in split(value, ',') {
        let Some((target, rest)) = text.trim().strip_prefix('<').and_then(|text| text.split_once('>')) else {
            continue;
        };
        let parameters = split(rest, ';').into_iter().filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), unquoted(value.trim())))
        });
        links.push(Link { target: target.trim().to_owned(), parameters: parameters.collect() });
    }
    links
}

/// Splits where `separator` is neither quoted nor between angle brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped, mut in_target) = (Vec::new(), 0, false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !in_target => quoted = !quoted,
            '<' if !quoted => in_target = true,
            '>' if !quoted => in_target = false,
            c if c == separator && !quoted && !in_target => {
                parts.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// The text of a parameter's value (RFC 9110, section 5.6.4).
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let kept = quoted.chars().filter(|c| {
        escaped = *c == '\\' && !escaped;
        !escaped
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_other_links_passed_over() {
        let values = [
            "<stun:stun.example.net>; rel=\"ice-server\"",
            "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"u,;\\\"x\"; credential=\"p\\\\w\"; \
             credential-type=\"password\", <turns:[2001:db8::1]:5349>;rel=ice-server;username=a;credential=b",
            "<https://example.net/next>; rel=\"next\", <http://example.net/,;>; rel=\"ice-server\"",
            "<turn:x>; rel=\"ice-server\"; credential-type=\"oauth\"",
            "nothing, <unclosed; rel=ice-server, \"<",
            "",
        ];
        let servers = ice_servers(values.into_iter());
        let found: Vec<_> = servers
            .iter()
            .map(|server| (server.url.as_str(), server.username.as_deref(), server.credential.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                ("stun:stun.example.net", None, None),
                ("turn:turn.example.net?transport=udp", Some("u,;\"x"), Some("p\\w")),
                ("turns:[2001:db8::1]:5349", Some("a"), Some("b")),
            ]
        );
        assert!(!format!("{servers:?}").contains("p\\"), "no secret is printed");
        let many = "<stun:a>; rel=ice-server,".repeat(100);
        assert_eq!(ice_servers([many.as_str()].into_iter()).len(), MOST_SERVERS);
    }
}
