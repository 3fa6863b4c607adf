//! URLs of signaling servers and of STUN and TURN servers; what is shown of them; candidates as pages write them.
//!
//! The input is one text.

use laterna::ice_server::{IceServer, Login};
use laterna::signaling::client::url::{SignalingUrl, shown_path};
use laterna::signaling::peers::CallPolicy;
use laterna::signaling::socketio::engineio::EngineIo;
use laterna::signaling::words::trickle;

use super::input::assert_one_line;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    signaling(&text);
    ice_server(&text);
    let shown = shown_path(&text);
    assert_eq!(shown.matches('/').count(), text.matches('/').count());
    let candidate = trickle(&text, None);
    assert!(candidate.end != (candidate.candidates.len() == 1));
    if let Some(policy) = CallPolicy::parse(&text) {
        let _ = policy.includes("desk 7");
    }
}

fn signaling(text: &str) {
    let parsed = match SignalingUrl::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return assert_one_line(&error.to_string()),
    };
    let label = parsed.label();
    assert_one_line(&label);
    let server = label.split('/').take(3).collect::<String>();
    assert!(!label.contains('?') && !server.contains('@'), "{label} shows more than a place");
    assert!(parsed.url.has_host() && parsed.url.fragment().is_none());
    let again = SignalingUrl::parse(&format!("{}+{}", parsed.protocol.name(), parsed.url)).unwrap();
    assert_eq!((again.protocol, &again.url), (parsed.protocol, &parsed.url), "what is kept of it is one");
    let mut all = [parsed.clone(), again];
    all[0].number_beside([].iter());
    let first = all[0].clone();
    all[1].number_beside([first].iter());
    assert_eq!((all[0].number, all[1].number), (1, 2));
    let request = EngineIo::new().address(&parsed.url);
    assert_eq!(request.query_pairs().filter(|(name, _)| name == "EIO").count(), 1, "{request}");
    assert_eq!(request.host(), parsed.url.host());
}

fn ice_server(text: &str) {
    let parsed = match IceServer::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let url = parsed.url();
    assert_one_line(&url);
    let login = Login { username: "u".to_owned(), password: "p".to_owned() };
    let again = IceServer::told(&url, login).or_else(|| IceServer::parse(&url).ok());
    let again = again.unwrap_or_else(|| panic!("{url} of {text:?} is not read again"));
    assert_eq!(again.url(), url);
    assert_eq!((again.scheme, &again.host, again.port), (parsed.scheme, &parsed.host, parsed.port));
}
