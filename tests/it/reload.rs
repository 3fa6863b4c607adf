//! Reload: the config file is read again at SIGHUP, and whoever watches notices nothing but what was changed.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::control::{json_of, refused, says};
use crate::signaled::{Pages, SIGNED_IN};
use crate::stage::{CAME, GONE, SOON, Stage};
use crate::support::daemon::{Daemon, Setup};
use crate::support::servers::NodeServer;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;
use crate::support::{heavy, long};

const TAKEN: &[&str] = &["INFO", "the configuration is taken over"];
const REFUSED: &[&str] = &["WARN", "the configuration is not taken over"];

/// A daemon's config file.
struct Config(PathBuf);

impl Config {
    /// Makes it for daemons of this setup.
    fn of(setup: Setup, text: &str) -> (Self, Setup) {
        let path = setup.state().join("laterna.toml");
        std::fs::write(&path, text).unwrap();
        let setup = setup.args(&["--config", path.to_str().unwrap()]);
        (Self(path), setup)
    }

    /// Writes it anew and tells the daemon; awaits the line that says what came of it.
    fn change(&self, daemon: &Daemon, text: &str, said: &[&str]) -> String {
        std::fs::write(&self.0, text).unwrap();
        let mark = daemon.log().mark();
        daemon.signal(Signal::HUP);
        daemon.logged_from(mark, said, SOON).text
    }
}

fn status(daemon: &Daemon) -> Value {
    json_of(&daemon.setup().control(), &["status", "--json"])
}

#[test]
fn sources_rates_and_names_change_under_a_viewer_who_stays() {
    let _machine = heavy();
    let screen = Xvfb::start(640, 360);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let setup = Setup::new(&["--size", "1280x720"]).display(&screen.display());
    let (config, setup) = Config::of(setup, "source = \"pattern\"\nfps = 20\nname = \"Before\"\n");
    let stage = Stage::open(&setup, (1280, 720));
    stage.goes_on();

    let line = config.change(
        &stage.daemon,
        "source = \"pattern\"\nfps = 10\nbitrate = \"1M\"\nname = \"After\"\nmax-viewers = 7\n",
        TAKEN,
    );
    assert!(line.contains("changed=\"name bitrate fps max-viewers\""), "{line}");
    stage.goes_on();
    let now = status(&stage.daemon);
    assert_eq!((&now["name"], &now["max_viewers"]), (&json!("After"), &json!(7)));

    config.change(&stage.daemon, "source = \"screen\"\n", TAKEN);
    let text = status(&stage.daemon)["source"]["what"].to_string();
    assert!(text.contains("screen") && text.contains("640x360"), "{text}");
    let drawing = client.draw_steadily(10, XClient::type_letter);
    let frames = "const before = (await lt.stats()).framesDecoded;
                  await lt.until(async () => (await lt.stats()).framesDecoded > before + 20, args[0], () => 'frames')";
    stage.browser.run::<Value>(frames, &[json!(SOON.as_millis() as u64)]);
    drawing.stop();
    config.change(&stage.daemon, "source = \"pattern\"\naudio = \"tone\"\n", TAKEN);
    stage.goes_on();
    assert!(status(&stage.daemon)["sound"]["what"].is_string(), "new viewers get sound");
    assert_eq!((stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)), (1, 0));
}

#[test]
fn sources_are_switched_by_hand_and_by_scene_under_a_viewer_and_one_that_can_not_be_had_changes_nothing() {
    let _machine = heavy();
    let screen = Xvfb::start(640, 360);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let setup = Setup::new(&["--size", "1280x720"]).display(&screen.display());
    let text = "source = \"pattern\"\n[scenes]\nslides = \"screen\"\n";
    let (config, setup) = Config::of(setup, text);
    let stage = Stage::open(&setup, (1280, 720));
    let control = stage.daemon.setup().control();
    for round in 0..if long() { 50 } else { 10 } {
        assert!(says(&control, &["switch", "scene:slides"]).contains("640x360 is shown"));
        if round == 0 {
            // A reload that names no other source leaves the operator's choice.
            config.change(&stage.daemon, &format!("fps = 20\n{text}"), TAKEN);
            assert!(status(&stage.daemon)["source"]["what"].to_string().contains("screen"));
        }
        assert!(says(&control, &["switch", "pattern"]).contains("pattern 1280x720 is shown"));
        stage.goes_on();
    }
    let refused = |to: &str, code| refused(&control, &["switch", to], code);
    assert!(refused("scene:moon", 1).contains("there is no such scene; the config file has slides"));
    assert!(refused("moon", 2).contains("no source is called 'moon'"));
    assert!(refused("camera:/dev/nothing", 1).contains("pattern 1280x720 is shown as before"));
    drop((client, screen));
    let why = refused("screen", 1);
    assert!(why.contains("source screen") && why.contains("pattern 1280x720 is shown as before"), "{why}");
    stage.goes_on();
    assert_eq!((stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)), (1, 0));
}

#[test]
fn what_makes_no_sense_or_can_not_be_had_changes_nothing_and_what_is_fixed_is_named() {
    let (config, setup) = Config::of(Setup::new(&["--fps", "10"]), "source = \"pattern\"\nname = \"Before\"\n");
    let daemon = setup.start();
    let before = status(&daemon);
    let unchanged = || {
        let now = status(&daemon);
        assert_eq!((&now["name"], &now["source"]), (&before["name"], &before["source"]));
    };
    for (text, why) in [
        ("name = \"After\"\nmoon = 1\n", "laterna.toml:2:1: moon: no such key"),
        ("name = \"After\"\nbitrate = \"fast\"\n", "laterna.toml:2:11: bitrate"),
        ("name = \"After\"\nsource = \"screen\"\n", "source screen: DISPLAY is not set"),
        (
            "name = \"After\"\nsource = \"pattern\"\nsignaling = [\"mdn+ws://127.0.0.1:1/?token-file=/nowhere\"]\n",
            "--signaling mdn+ws://127.0.0.1:1",
        ),
    ] {
        let line = config.change(&daemon, text, REFUSED);
        assert!(line.contains(why), "{line}");
        unchanged();
    }
    // Nobody waits for what never ends.
    std::fs::remove_file(&config.0).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&config.0).status().unwrap().success());
    let mark = daemon.log().mark();
    daemon.signal(Signal::HUP);
    daemon.logged_from(mark, &["is not taken over", "a special file where a plain file must be"], SOON);
    let problems = status(&daemon)["problems"].to_string();
    assert!(problems.contains("the configuration was not taken over"), "{problems}");
    std::fs::remove_file(&config.0).unwrap();

    let line = config.change(
        &daemon,
        "source = \"pattern\"\nname = \"After\"\nsize = \"640x360\"\nlisten = \"127.0.0.1:0\"\ncodec = \"vp8\"\n",
        &["WARN", "holds from the next start on"],
    );
    // A flag goes before the file, so what stands there for `listen` is nothing new.
    assert!(line.contains("settings=\"codec size\""), "{line}");
    let now = status(&daemon);
    assert_eq!((&now["name"], &now["problems"]), (&json!("After"), &json!([])));
    daemon.stop();
}

#[test]
fn signaling_servers_come_and_go_and_a_new_name_is_theirs_too_under_a_viewer() {
    let _machine = heavy();
    let (first, second) = (NodeServer::start("mdn.js", &["0"]), NodeServer::start("mdn.js", &["0"]));
    let url = |server: &NodeServer| format!("mdn+ws://{}/chat", server.address);
    let (config, setup) = Config::of(
        Setup::new(&["--source", "pattern"]),
        &format!("name = \"desk\"\nsignaling = \"{}\"\n", url(&first)),
    );
    let daemon = setup.start();
    daemon.logged(SIGNED_IN, SOON);
    let pages = Pages::new(&[]);
    pages.open(&format!("/mdn_page.html?name=pupil&server=ws://{}/chat", first.address));
    pages.awaits("viewer.users.includes('desk')");
    pages.browser.run::<Value>("await viewer.offer('desk')", &[]);
    pages.goes_on();
    daemon.logged(CAME, SOON);

    config.change(
        &daemon,
        &format!("name = \"board\"\nsignaling = [\"{}\", \"{}\"]\n", url(&first), url(&second)),
        TAKEN,
    );
    daemon.logged_times(3, SIGNED_IN, SOON);
    pages.awaits("viewer.users.includes('board') && !viewer.users.includes('desk')");
    pages.goes_on();
    let servers = status(&daemon)["signaling"].clone();
    let names: Vec<_> =
        servers.as_array().unwrap().iter().map(|server| server["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["board"; 3], "the room, and both servers");

    config.change(&daemon, &format!("name = \"board\"\nsignaling = \"{}\"\n", url(&second)), TAKEN);
    pages.awaits("!viewer.users.includes('board')");
    pages.goes_on();
    assert_eq!(status(&daemon)["signaling"].as_array().unwrap().len(), 2);
    assert_eq!((daemon.count_logged(CAME), daemon.count_logged(GONE)), (1, 0));
    assert_eq!(pages.errors(), [""; 0]);
}
