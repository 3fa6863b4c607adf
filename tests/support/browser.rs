//! A headless Chromium of its own, driven through chromedriver.
//!
//! Every document gets `page.js` before its own scripts: it reads the video's pixels and the connection's statistics.

use std::process::{Command, Stdio};
use std::time::Duration;

use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::page::{self, PAGE, Page};
use super::process::{Output, Process, processes_with, signal};

/// How long one script may run.
const SCRIPT: Duration = Duration::from_secs(120);
/// How long the browser may take to start.
const START: Duration = Duration::from_secs(60);

/// A running browser with one window; ends, with all its processes, when dropped.
pub struct Browser {
    client: Client,
    runtime: Runtime,
    profile: TempDir,
    _driver: Process,
}

/// Starts chromedriver, and gives its port; `None` where it found none.
fn start_driver() -> Option<(Process, u16)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut driver = Process::spawn(&mut command);
    let output = Output::follow(driver.child().stdout.take().unwrap());
    let is_said = |line: &str| line.contains("started successfully on port") || line.contains("port not available");
    let said = output.wait(START, is_said);
    let line = said.unwrap_or_else(|| panic!("chromedriver did not start:\n{}", output.tail(20))).text;
    let port = line.trim_end_matches('.').rsplit(' ').next().unwrap().parse().ok()?;
    Some((driver, port))
}

impl Browser {
    /// Starts a browser with an empty page.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a browser with more arguments.
    pub fn start_with(args: &[&str]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The port that it chooses may be taken by another test before it has it in both families.
        let (driver, port) = (0..5).find_map(|_| start_driver()).expect("chromedriver finds no free port");
        let own = format!("--user-data-dir={}", profile.path().display());
        let fixed = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            "--autoplay-policy=no-user-gesture-required",
            "--window-size=1920,1080",
            "--lang=en",
        ];
        let args: Vec<&str> = fixed.into_iter().chain([own.as_str()]).chain(args.iter().copied()).collect();
        let capabilities = json!({ "goog:chromeOptions": { "args": args } });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(serde_json::from_value(capabilities).unwrap());
            let connected = tokio::time::timeout(START, builder.connect(&format!("http://127.0.0.1:{port}"))).await;
            let client = connected.unwrap_or_else(|_| panic!("Chromium did not start within {START:?}")).unwrap();
            let limits = TimeoutConfiguration::new(Some(SCRIPT), Some(SCRIPT), None);
            client.update_timeouts(limits).await.unwrap();
            client
        });
        let browser = Self { client, runtime, profile, _driver: driver };
        browser.watch_window();
        browser
    }

    /// Opens an address in the present window.
    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.client.goto(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// Opens another window and makes it the present one; gives what is needed to come back.
    pub fn new_window(&self) -> Window {
        let (old, new) = self.runtime.block_on(async {
            let old = self.client.window().await.unwrap();
            let new = self.client.new_window(false).await.unwrap().handle;
            self.client.switch_to_window(new.clone()).await.unwrap();
            (old, new)
        });
        self.watch_window();
        Window { before: old, this: new }
    }

    /// Makes a window the present one.
    pub fn switch(&self, window: &WindowHandle) {
        self.runtime.block_on(self.client.switch_to_window(window.clone())).unwrap();
    }

    /// Closes the present window, as its user would, and goes to another.
    pub fn close_window(&self, then: &WindowHandle) {
        self.runtime.block_on(async {
            self.client.close_window().await.unwrap();
            self.client.switch_to_window(then.clone()).await.unwrap();
        });
    }

    /// Runs the body of an async function in the page, `args` being its arguments, and gives what it returns.
    pub fn run<T: DeserializeOwned>(&self, body: &str, args: &[Value]) -> T {
        Page::run(self, body, args)
    }

    /// As [`Self::run`], with what went wrong in the page as the error.
    pub fn try_run<T: DeserializeOwned>(&self, body: &str, args: &[Value]) -> Result<T, String> {
        Page::try_run(self, body, args)
    }

    /// Gives the present window's page this size in pixels, as on another device.
    pub fn resize(&self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let command = DevTools { command: "Emulation.setDeviceMetricsOverride", params };
        self.runtime.block_on(self.client.issue_cmd(command)).unwrap();
    }

    /// Stops all of the browser's processes, as a lost network would: nothing is said any more.
    pub fn freeze(&self) {
        for pid in self.processes() {
            signal(pid, Signal::STOP);
        }
    }

    /// A screenshot of the present window as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        self.runtime.block_on(self.client.screenshot()).unwrap()
    }

    fn processes(&self) -> Vec<u32> {
        processes_with(&self.profile.path().display().to_string())
    }

    fn watch_window(&self) {
        let command = DevTools { command: "Page.addScriptToEvaluateOnNewDocument", params: json!({ "source": PAGE }) };
        self.runtime.block_on(self.client.issue_cmd(command)).unwrap();
    }
}

impl Page for Browser {
    fn open(&self, url: &str) {
        self.open(url);
    }

    fn value_of(&self, body: &str, args: &[Value]) -> Result<Value, String> {
        let script = page::script(body);
        let result = self.runtime.block_on(async {
            let call = self.client.execute_async(&script, args.to_vec());
            tokio::time::timeout(SCRIPT, call).await.map_err(|_| format!("no answer within {SCRIPT:?}"))
        })?;
        page::outcome(result.map_err(|error| error.to_string())?)
    }

    fn click(&self, selector: &str) {
        let click = async { self.client.find(Locator::Css(selector)).await?.click().await };
        self.runtime.block_on(click).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    fn press(&self, selector: &str, key: &str) {
        let press = async { self.client.find(Locator::Css(selector)).await?.send_keys(key).await };
        self.runtime.block_on(press).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    fn screenshot(&self) -> Vec<u8> {
        self.screenshot()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Zygotes and utilities end by themselves when the processes that bear the profile's name are gone.
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

/// A window that was opened, and the one that was there before.
pub struct Window {
    /// The present window of before.
    pub before: WindowHandle,
    /// The new window.
    pub this: WindowHandle,
}

/// A command of the browser's own protocol.
#[derive(Debug)]
struct DevTools {
    command: &'static str,
    params: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (hyper::http::Method, Option<String>) {
        (hyper::http::Method::POST, Some(json!({ "cmd": self.command, "params": self.params }).to_string()))
    }
}
