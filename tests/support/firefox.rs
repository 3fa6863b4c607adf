//! A headless Firefox of its own, driven by its Marionette protocol: WebDriver commands in length-prefixed JSON over TCP.
//!
//! Owns the process, its profile and its network habits: it reaches nothing but what a test opens. `page.js` is put into a document by the first
//! script that is run there, so what it notes of the page's start isn't known here.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::page::{PAGE, Page, outcome, script};
use super::process::{Output, Process, processes_with, signal};

/// How long the browser may take to start, and to open a page.
const START: Duration = Duration::from_secs(60);
/// How long one script may run.
const SCRIPT: Duration = Duration::from_secs(120);
/// How long a command may take beyond the deadline that the browser itself keeps.
const GRACE: Duration = Duration::from_secs(10);
/// How long the browser may take to end.
const END: Duration = Duration::from_secs(20);
/// The most that one message may have: a screenshot has a few megabytes.
const MOST_BYTES: usize = 64 << 20;

/// Preferences beside those that Marionette sets by itself: no first-run pages, nothing fetched, connections over loopback.
const PREFERENCES: &[(&str, &str)] = &[
    ("marionette.port", "0"),
    ("app.normandy.enabled", "false"),
    ("app.update.enabled", "false"),
    ("browser.aboutwelcome.enabled", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("datareporting.policy.dataSubmissionPolicyBypassNotification", "true"),
    ("extensions.update.enabled", "false"),
    ("intl.accept_languages", "\"en\""),
    ("intl.locale.requested", "\"en-US\""),
    ("media.autoplay.blocking_policy", "0"),
    ("media.gmp-gmpopenh264.enabled", "false"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("media.peerconnection.ice.loopback", "true"),
    ("media.peerconnection.ice.obfuscate_host_addresses", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("network.proxy.type", "0"),
    ("toolkit.telemetry.enabled", "false"),
];

/// Whether sound may play that no click asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autoplay {
    /// It may.
    Allowed,
    /// It needs a click, as a user's Firefox demands it.
    Blocked,
}

/// A running browser with one window; ends, with all its processes, when dropped.
pub struct Firefox {
    wire: RefCell<Wire>,
    process: RefCell<Process>,
    profile: TempDir,
}

impl Firefox {
    /// Starts a browser with an empty page of 1280 by about 720 pixels.
    pub fn start(autoplay: Autoplay) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let sound = ("media.autoplay.default", if autoplay == Autoplay::Allowed { "0" } else { "1" });
        let lines =
            PREFERENCES.iter().chain([&sound]).map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"));
        std::fs::write(profile.path().join("user.js"), lines.collect::<String>()).unwrap();

        let mut command = Command::new("firefox-esr");
        command.args(["--headless", "-marionette", "-no-remote", "--profile"]).arg(profile.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env("HOME", profile.path());
        command
            .env("MOZ_HEADLESS_WIDTH", "1280")
            .env("MOZ_HEADLESS_HEIGHT", "806")
            .env("MOZ_CRASHREPORTER_DISABLE", "1");
        let mut process = Process::spawn(&mut command);
        let output = Output::follow(process.child().stdout.take().unwrap());
        let ready = output.wait(START, |line| line.contains("Marionette") && line.contains("Listening on port"));
        let line = ready.unwrap_or_else(|| panic!("Firefox did not start:\n{}", output.tail(20))).text;
        let port = line.rsplit(' ').next().unwrap().parse().unwrap();

        let mut wire = Wire::connect(port);
        wire.call("WebDriver:NewSession", &json!({ "capabilities": {} }), START).unwrap();
        let limits = json!({ "script": millis(SCRIPT), "pageLoad": millis(START), "implicit": 0 });
        wire.call("WebDriver:SetTimeouts", &limits, GRACE).unwrap();
        Self { wire: RefCell::new(wire), process: RefCell::new(process), profile }
    }

    /// Stops all of the browser's processes, as a lost network would: nothing is said any more.
    pub fn freeze(&self) {
        for pid in processes_with(&self.profile.path().display().to_string()) {
            signal(pid, Signal::STOP);
        }
    }

    /// Ends the browser as its user would, so that pages may say goodbye, and awaits its end.
    pub fn quit(self) {
        self.call("Marionette:Quit", &json!({ "flags": ["eAttemptQuit"] }), END).unwrap();
        assert!(self.process.borrow_mut().wait(END).is_some(), "Firefox did not end within {END:?}");
    }

    fn call(&self, command: &str, parameters: &Value, within: Duration) -> Result<Value, String> {
        self.wire.borrow_mut().call(command, parameters, within)
    }

    fn element(&self, selector: &str) -> String {
        let by = json!({ "using": "css selector", "value": selector });
        let found =
            self.call("WebDriver:FindElement", &by, GRACE).unwrap_or_else(|error| panic!("{selector}: {error}"));
        // An object with one member, whose name is fixed by WebDriver and whose value is the reference.
        let reference = found["value"].as_object().and_then(|object| object.values().next()).and_then(Value::as_str);
        reference.unwrap_or_else(|| panic!("{selector}: no reference in {found}")).to_owned()
    }
}

impl Page for Firefox {
    fn open(&self, url: &str) {
        let opened = self.call("WebDriver:Navigate", &json!({ "url": url }), START + GRACE);
        opened.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    fn value_of(&self, body: &str, args: &[Value]) -> Result<Value, String> {
        let parameters = json!({ "script": format!("{PAGE}\n{}", script(body)), "args": args, "newSandbox": false });
        outcome(self.call("WebDriver:ExecuteAsyncScript", &parameters, SCRIPT + GRACE)?["value"].take())
    }

    fn click(&self, selector: &str) {
        let clicked = self.call("WebDriver:ElementClick", &json!({ "id": self.element(selector) }), GRACE);
        clicked.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    fn press(&self, selector: &str, key: &str) {
        let parameters = json!({ "id": self.element(selector), "text": key });
        let pressed = self.call("WebDriver:ElementSendKeys", &parameters, GRACE);
        pressed.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    fn screenshot(&self) -> Vec<u8> {
        let shot = self.call("WebDriver:TakeScreenshot", &json!({ "full": false, "hash": false }), GRACE).unwrap();
        from_base64(shot["value"].as_str().unwrap())
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        self.process.borrow_mut().kill();
        // Processes for contents are not all of the browser's group.
        for pid in processes_with(&self.profile.path().display().to_string()) {
            signal(pid, Signal::KILL);
        }
    }
}

/// The connection to the browser.
struct Wire {
    stream: TcpStream,
    last: u64,
}

impl Wire {
    /// Connects and reads the greeting.
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), START).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Self { stream, last: 0 };
        let greeting = wire.read(Instant::now() + START).unwrap();
        assert_eq!(greeting["marionetteProtocol"], 3, "another protocol: {greeting}");
        wire
    }

    /// Sends a command and awaits its answer.
    fn call(&mut self, command: &str, parameters: &Value, within: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + within;
        self.last += 1;
        let message = json!([0, self.last, command, parameters]).to_string();
        self.stream.set_write_timeout(Some(within)).unwrap();
        let sent = self.stream.write_all(format!("{}:{message}", message.len()).as_bytes());
        sent.map_err(|error| format!("{command} could not be sent: {error}"))?;
        loop {
            let mut answer = self.read(deadline).map_err(|error| format!("no answer to {command}: {error}"))?;
            // An answer that came too late for its own command is left behind.
            if answer[1].as_u64() != Some(self.last) {
                continue;
            }
            return match answer[2].take() {
                Value::Null => Ok(answer[3].take()),
                error => Err(format!("{}: {}", error["error"], error["message"])),
            };
        }
    }

    /// Reads one message.
    fn read(&mut self, deadline: Instant) -> Result<Value, String> {
        let mut length = 0;
        loop {
            let mut byte = [0];
            self.fill(&mut byte, deadline)?;
            match byte[0] {
                b':' => break,
                digit @ b'0'..=b'9' if length <= MOST_BYTES => length = length * 10 + usize::from(digit - b'0'),
                other => return Err(format!("byte {other} in the length of a message of {length} bytes or more")),
            }
        }
        let mut message = vec![0; length];
        self.fill(&mut message, deadline)?;
        serde_json::from_slice(&message).map_err(|error| error.to_string())
    }

    fn fill(&mut self, mut part: &mut [u8], deadline: Instant) -> Result<(), String> {
        while !part.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the deadline has passed".to_owned());
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(part) {
                Ok(0) => return Err("the browser has closed the connection".to_owned()),
                Ok(count) => part = &mut part[count..],
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// The bytes that base64 (RFC 4648, section 4) stands for.
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'=').map(digit).collect();
    let group = |digits: &[u8]| {
        let bits = digits.iter().fold(0u32, |bits, &digit| bits << 6 | u32::from(digit)) << (6 * (4 - digits.len()));
        bits.to_be_bytes()[1..digits.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
