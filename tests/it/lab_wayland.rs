//! A Wayland desktop in a machine of its own (sway, its portal, PipeWire), watched by a browser from outside.
//!
//! `./dev lab` boots the machine by `tests/lab/run`. It is one test, as each step stands on the one before.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::guest::Guest;
use crate::stage::millis;
use crate::support::browser::Browser;

/// How long what is emulated may take.
const LONG: Duration = Duration::from_secs(180);

/// The desktop of the guest's user, and laterna in it.
struct Desktop {
    guest: Guest,
    browser: Browser,
    address: String,
}

impl Desktop {
    /// Starts the desktop, and a browser outside.
    fn new() -> Self {
        let guest = Guest::new();
        guest.step("a desktop of Wayland");
        guest.root("test -x /usr/bin/laterna || apt-get install -y /host/first.deb");
        let address = guest.root("echo $GUEST_IP");
        let desktop = Self { guest, browser: Browser::start(), address };
        desktop.begins();
        desktop
    }

    /// Starts the desktop, and waits until its portal can be asked.
    fn begins(&self) {
        self.guest.root("/host/checks/wayland");
    }

    fn user(&self, line: &str) -> String {
        self.guest.user("lab", line)
    }

    /// Tells sway something.
    fn sway(&self, command: &str) {
        self.user(&format!("export $(systemctl --user show-environment | grep ^SWAYSOCK=); swaymsg -- '{command}'"));
    }

    /// Starts laterna in the user's session.
    fn shares(&self) {
        self.user(
            "systemd-run --user --quiet --collect --unit=shared --setenv=STATE_DIRECTORY=/home/lab/shared --setenv=LATERNA_LOG=debug laterna run \
             --source screen --audio off --auth none --fps 5 --network eth1 --listen 0.0.0.0:8888",
        );
        self.guest.user_awaits("lab", "laterna status", LONG);
    }

    /// Awaits that the log of the service says it so many times.
    fn says(&self, count: u32, words: &str) {
        let line = format!("test $(journalctl --user --no-pager -u shared | grep -c \"{words}\") -ge {count}");
        self.guest.user_awaits("lab", &line, LONG);
    }

    fn user_awaits(&self, line: &str) {
        self.guest.user_awaits("lab", line, LONG);
    }

    /// How often the desktop's dialog was there.
    fn dialogs(&self) -> String {
        self.user("cat /tmp/dialogs 2>/dev/null | wc -l")
    }

    /// Awaits this colour in the middle of a picture of this size.
    fn shows(&self, colour: [u8; 3], size: [u16; 2]) {
        let script = "const near = (is) => is.every((part, at) => Math.abs(part - args[1][at]) <= 12);
            const middle = [[args[2][0] / 2, args[2][1] / 2]];
            return await lt.until(() => near(lt.colours(middle, args[2])[0]), args[0], () => `${lt.colours(middle, args[2])} where ${args[1]} must be`)";
        self.browser.run::<Value>(script, &[millis(LONG), json!(colour), json!(size)]);
    }

    fn opens_page(&self) {
        self.browser.open("about:blank");
        self.browser.open(&format!("http://{}:8888/", self.address));
        self.browser.run::<Value>("return lt.state(['playing'], args[0])", &[millis(LONG)]);
    }
}

#[test]
#[ignore = "needs a virtual machine: ./dev lab"]
fn a_wayland_screen_is_shared_lost_and_found() {
    let desktop = Desktop::new();
    let guest = &desktop.guest;
    let size = [640, 360];
    let listed = desktop.user("export $(systemctl --user show-environment | grep ^WAYLAND_DISPLAY=); laterna sources");
    assert!(listed.contains("the screen that is chosen in the desktop"), "{listed}");

    guest.step("a dialog, then the screen");
    desktop.shares();
    let status: Value = serde_json::from_str(&desktop.user("laterna status --json")).unwrap();
    assert!(status["source"]["what"].as_str().unwrap().starts_with("screen (Wayland) 640x360"), "{status}");
    assert_eq!(desktop.dialogs(), "1");
    desktop.opens_page();
    desktop.shows([0x33, 0x66, 0x99], size);
    desktop.sway("output * bg #aa3311 solid_color");
    desktop.shows([0xaa, 0x33, 0x11], size);

    guest.step("another size");
    // This desktop's portal gives the first picture of another size when something is drawn.
    desktop.sway("output * mode --custom 480x270");
    desktop.sway("output * bg #22aa11 solid_color");
    desktop.says(1, "now 480x270");
    desktop.shows([0x22, 0xaa, 0x11], size);
    desktop.user_awaits("laterna status | grep -q 480x270");
    desktop.sway("output * mode --custom 640x360");
    desktop.sway("output * bg #aa3311 solid_color");
    desktop.says(1, "now 640x360");
    desktop.shows([0xaa, 0x33, 0x11], size);

    for (number, (what, line)) in [
        ("the portal is killed", "systemctl --user kill -s KILL xdg-desktop-portal-wlr xdg-desktop-portal"),
        ("PipeWire is started again", "systemctl --user restart pipewire wireplumber xdg-desktop-portal-wlr"),
    ]
    .into_iter()
    .enumerate()
    {
        guest.step(what);
        desktop.user(line);
        desktop.says(number as u32 + 1, "the screen is lost");
        desktop.says(number as u32 + 1, "the screen is back");
        desktop.sway(&format!("output * bg #{number}0aa44 solid_color"));
        desktop.shows([number as u8 * 16, 0xaa, 0x44], size);
    }

    guest.step("the desktop ends, and begins again");
    guest.root("systemctl stop lab-sway");
    desktop.says(3, "the screen is lost");
    desktop.begins();
    desktop.says(3, "the screen is back");
    desktop.shows([0x33, 0x66, 0x99], size);

    guest.step("who refuses is not asked again");
    desktop.user("systemctl --user stop shared; touch /tmp/refuse; rm -rf /home/lab/shared");
    let refused = desktop.user("STATE_DIRECTORY=/home/lab/shared laterna run --source screen --capture portal --audio off --auth none 2>&1; test $? = 1");
    assert!(refused.contains("the user has refused; run laterna again"), "{refused}");
    desktop.user("rm /tmp/refuse; systemctl --user reset-failed");
    guest.step("done");
}
