//! STUN and TURN servers on their way to viewers: the page has them before it gathers, and only whoever has the code gets them.

use serde_json::Value;

use crate::stage::Stage;
use crate::support::daemon::Setup;
use crate::support::heavy;

#[test]
fn the_page_uses_the_servers_that_the_daemon_names() {
    let _machine = heavy();
    let setup = Setup::new(&["--source", "pattern"]);
    let write = |name: &str, content: &str| {
        let path = setup.state().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (secret, password) = (write("secret", "north\n"), write("password", "pass \"word\" ü\n"));
    // Nothing answers there: the ways of the daemon itself serve all the same.
    let servers = [
        "stun:127.0.0.1:9".to_owned(),
        format!("turn:127.0.0.1:9?transport=tcp&user=pupil&password-file={password}"),
        format!("turn:127.0.0.1:9?secret-file={secret}"),
    ];
    let args: Vec<&str> = servers.iter().flat_map(|server| ["--ice-server", server]).collect();
    let stage = Stage::open(&setup.args(&args), (1280, 720));
    let used: Vec<Value> = stage.browser.run("return window.laterna.pc.getConfiguration().iceServers", &[]);
    // Chromium gives what is not ASCII back in another encoding: the page's own words, then.
    let script = "
        const { useServers } = await import('/ice.js');
        const known = await fetch('/whep', { method: 'OPTIONS', headers: { Authorization: 'Bearer ' + args[0] } });
        let told = null;
        useServers({ getConfiguration: () => ({}), setConfiguration: ({ iceServers }) => { told = iceServers; } }, known.headers.get('Link'));
        return told";
    let told: Vec<Value> = stage.browser.run(script, &[stage.daemon.code().into()]);
    assert_eq!((&told[1]["username"], &told[1]["credential"]), (&"pupil".into(), &"pass \"word\" ü".into()));
    let field = |n: usize, name: &str| used[n][name].as_str().unwrap_or_default().to_owned();
    let urls: Vec<_> = used.iter().map(|server| server["urls"][0].as_str().unwrap_or_default()).collect();
    assert_eq!(urls, ["stun:127.0.0.1:9", "turn:127.0.0.1:9?transport=tcp", "turn:127.0.0.1:9?transport=udp"]);
    assert_eq!(field(1, "username"), "pupil");
    let now: f64 = stage.browser.run("return Date.now() / 1000", &[]);
    let left = field(2, "username").parse::<f64>().unwrap() - now;
    assert!((11.9 * 3600.0..12.1 * 3600.0).contains(&left), "the password is good for {left} s");
    assert_eq!(field(2, "credential").len(), 28, "an HMAC-SHA1 in base64");
    for secret in ["north", "word", &field(2, "credential")] {
        assert_eq!(stage.daemon.count_logged(&[secret]), 0, "a secret is in the log");
    }
}

#[test]
fn a_file_that_is_not_there_is_an_end_that_names_it() {
    let failure = Setup::new(&["--source", "pattern", "--ice-server", "turn:h?secret-file=/nowhere/secret"]).fail();
    assert_eq!(failure.status.code(), Some(1));
    assert!(failure.stderr.iter().any(|line| line.contains("/nowhere/secret")), "{:?}", failure.stderr);
}
