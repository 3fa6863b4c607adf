//! The viewer page and its parts, built into the program.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::Reply;

/// One file of the page.
#[derive(Debug)]
pub(super) struct Page {
    content: &'static str,
    content_type: &'static str,
}

const INDEX: Page = Page { content: include_str!("../web/index.html"), content_type: "text/html; charset=utf-8" };
const SCRIPT: Page = Page { content: include_str!("../web/viewer.js"), content_type: "text/javascript; charset=utf-8" };
const ICE: Page = Page { content: include_str!("../web/ice.js"), content_type: "text/javascript; charset=utf-8" };
const SOUND: Page = Page { content: include_str!("../web/sound.js"), content_type: "text/javascript; charset=utf-8" };
const TEXT: Page = Page { content: include_str!("../web/text.js"), content_type: "text/javascript; charset=utf-8" };
const STYLE: Page = Page { content: include_str!("../web/viewer.css"), content_type: "text/css; charset=utf-8" };
const ICON: Page = Page { content: include_str!("../web/icon.svg"), content_type: "image/svg+xml" };

/// The file at `path`.
pub(super) fn at(path: &str) -> Option<&'static Page> {
    match path {
        "/" => Some(&INDEX),
        "/viewer.js" => Some(&SCRIPT),
        "/ice.js" => Some(&ICE),
        "/sound.js" => Some(&SOUND),
        "/text.js" => Some(&TEXT),
        "/viewer.css" => Some(&STYLE),
        "/icon.svg" | "/favicon.ico" => Some(&ICON),
        _ => None,
    }
}

impl Page {
    /// The reply with the file, or 304 where the browser has it already.
    pub(super) fn reply(&self, request: &HeaderMap) -> Reply {
        let Ok(tag) = HeaderValue::try_from(self.tag()) else { return Reply::not_found() };
        let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_known = known.flat_map(|value| value.split(',')).any(|known| {
            let known = known.trim();
            known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes()
        });
        let reply = match is_known {
            true => Reply::empty(StatusCode::NOT_MODIFIED),
            false => Reply::empty(StatusCode::OK)
                .with(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type))
                .with_body(Bytes::from_static(self.content.as_bytes())),
        };
        // Asked for each time, so that an updated daemon's page is seen at once.
        reply.with(header::ETAG, tag).with(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
    }

    /// A tag that changes with the content.
    fn tag(&self) -> String {
        format!("\"{:016x}\"", BuildHasherDefault::<DefaultHasher>::default().hash_one(self.content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_outside_and_nothing_inline() {
        for page in [&INDEX, &SCRIPT, &ICE, &SOUND, &TEXT, &STYLE] {
            for outside in ["http://", "https://", "//cdn", "@import", "url("] {
                assert!(!page.content.contains(outside), "{outside}");
            }
        }
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!INDEX.content.contains(inline), "{inline}");
        }
    }

    #[test]
    fn every_part_that_the_page_names_is_served() {
        let named = [&INDEX, &SCRIPT].into_iter().flat_map(|page| page.content.split(['"', '\'']));
        let is_part = |name: &&str| [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end));
        let parts: Vec<_> = named.filter(is_part).map(|name| name.trim_start_matches('.')).collect();
        assert!(parts.len() >= 6, "{parts:?}");
        for part in parts {
            assert!(at(part).is_some(), "{part}");
        }
    }

    #[test]
    fn both_languages_have_every_text_of_the_page() {
        let keys = INDEX.content.split("data-text=\"").chain(INDEX.content.split("data-label=\""));
        let keys: Vec<_> = keys.filter_map(|rest| rest.split('"').next()).filter(|key| !key.contains('<')).collect();
        assert!(keys.len() > 10, "{keys:?}");
        let (english, chinese) = TEXT.content.split_once("\n  zh: {").unwrap_or_default();
        let chinese = chinese.split("\n};").next().unwrap_or_default();
        for key in keys {
            let entry = format!(" {key}: '");
            assert!(english.contains(&entry) && chinese.contains(&entry), "{key}");
        }
    }
}
