//! What is said of the daemon itself to those who watch over it: `/healthz`, `/readyz` and `/metrics`.

use crate::support::daemon::{Daemon, Setup};
use crate::support::http;

const OFFER: &str = include_str!("../data/offers/chromium-recvonly-video.sdp");

fn get(daemon: &Daemon, path: &str) -> (u16, String) {
    let response = http::request(daemon.http(), "GET", path, &[], b"");
    (response.status, response.body)
}

#[test]
fn a_daemon_that_serves_is_ready_and_counts_its_viewers() {
    for more in [&[][..], &["--room", "open", "--auth", "none"]] {
        let daemon = Setup::new(&["--source", "pattern"]).args(more).start();
        assert_eq!(
            [get(&daemon, "/healthz"), get(&daemon, "/readyz")],
            ["ok\n", "ready\n"].map(|text| (200, text.to_owned()))
        );
        let samples = |wanted: &str| {
            let (status, text) = get(&daemon, "/metrics");
            assert_eq!(status, 200, "{text}");
            assert!(text.lines().any(|line| line == wanted), "no {wanted}:\n{text}");
            text
        };
        samples("laterna_viewers{state=\"joining\"} 0");
        let answer = http::offer(daemon.http(), daemon.code().as_deref(), OFFER.as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.body);
        let text = samples("laterna_viewers{state=\"joining\"} 1");
        assert!(!text.contains("127.0.0.1"), "{text}");
        for path in ["/readyz", "/metrics"] {
            let posted = http::request(daemon.http(), "POST", path, &[], b"x");
            assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")), "{path}");
        }
        daemon.stop();
    }
}
