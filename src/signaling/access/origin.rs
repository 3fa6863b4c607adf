//! Which other sites' pages may use this daemon (the web's origins, RFC 6454).

use url::Url;

/// The sites whose pages may ask for the stream, besides the daemon's own; none named means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Adds a site, as `https://host` or `http://host:port`; whether it is one.
    pub fn add(&mut self, text: &str) -> bool {
        let Ok(url) = Url::parse(text) else { return false };
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        if !is_bare || !is_anonymous || !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return false;
        }
        let origin = url.origin().ascii_serialization();
        if !self.0.contains(&origin) {
            self.0.push(origin);
        }
        true
    }

    /// Whether any page may.
    pub fn are_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a page of `origin` may, as the header of a request to `host` tells it.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let is_own = || {
            let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            place.zip(host).is_some_and(|(place, host)| place.eq_ignore_ascii_case(host))
        };
        self.are_all() || self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) || is_own()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_named_sites_and_of_the_daemon_itself_may_and_no_others() {
        let mut origins = Origins::default();
        assert!(origins.allow("https://anywhere.example", None) && origins.allow("null", Some("h")));
        for text in ["https://School.example", "http://10.0.0.7:8080/", "https://school.example:443"] {
            assert!(origins.add(text), "{text}");
        }
        for text in
            ["", "school.example", "ftp://h", "https://h/path", "https://h?x", "https://me@h", "null", "*", "file:///x"]
        {
            assert!(!origins.add(text), "{text}");
        }
        for (origin, host, allowed) in [
            ("https://school.example", Some("10.0.0.5:8888"), true),
            ("http://10.0.0.7:8080", None, true),
            ("http://school.example", None, false),
            ("https://school.example.evil.example", None, false),
            ("http://10.0.0.5:8888", Some("10.0.0.5:8888"), true),
            ("http://evil.example", Some("10.0.0.5:8888"), false),
            ("null", Some("10.0.0.5:8888"), false),
        ] {
            assert_eq!(origins.allow(origin, host), allowed, "{origin} {host:?}");
        }
    }
}
