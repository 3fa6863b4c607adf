//! The package in a machine of its own: installed by apt, run by systemd, watched by a browser from outside, upgraded, removed.
//!
//! `./dev lab` boots the machine by `tests/lab/run` and puts two versions of the package into its `/host`. It is one test, as each step
//! stands on the one before.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::millis;
use crate::support::browser::Browser;

mod camera;
pub mod guest;

use guest::Guest;

/// Where the guest is.
const ADDRESS: &str = "10.77.0.2";
/// How long what is emulated may take.
const LONG: Duration = Duration::from_secs(180);
/// The users that systemd makes at a service's start.
const DYNAMIC_USERS: RangeInclusive<u32> = 61184..=65519;
/// A test card that an emulated machine can encode.
const CONFIG: &str = "
source = \"pattern\"
size = \"320x180\"
fps = 5
audio = \"off\"
network = [\"eth1\"]
";
const SIZE: [u16; 2] = [320, 180];

/// A browser outside, at the guest's page.
struct Viewer(Browser);

impl Viewer {
    fn open(&self, code: &str) {
        self.0.open("about:blank");
        self.0.open(&format!("http://{ADDRESS}:8888/#{code}"));
        self.plays();
    }

    fn plays(&self) {
        self.0.run::<Value>("return lt.state(['playing'], args[0])", &[millis(LONG)]);
    }

    /// Awaits pictures of the test card, one after the other.
    fn sees_the_card(&self) {
        let script = "const now = await lt.number(0, ...args);
                      return (await lt.number(now.number + 3, ...args)).number - now.number";
        assert!(self.0.run::<u32>(script, &[millis(LONG), json!(SIZE)]) >= 3);
    }

    /// Keeps in mind which connection there is.
    fn marks(&self) {
        self.0.run::<Value>("lt.kept = window.laterna.pc", &[]);
    }

    /// Awaits that it plays by another connection than the one in mind.
    fn comes_back(&self) {
        let script = "const is = () => document.documentElement.dataset.state;
            return lt.until(() => is() === 'playing' && window.laterna.pc !== lt.kept, args[0], () => `another connection, it is ${is()}`)";
        self.0.run::<Value>(&format!("await (async () => {{ {script} }})()"), &[millis(LONG)]);
        self.plays();
    }
}

/// Installs it, and starts it as its user would.
fn install(guest: &Guest) -> String {
    guest.step("apt install ./laterna.deb");
    guest.root("apt-get install -y /host/first.deb");
    assert_eq!(guest.root("systemctl is-enabled laterna || :; systemctl is-active laterna || :"), "disabled\ninactive");
    assert_eq!(guest.root("laterna config check"), "/etc/laterna/laterna.toml: ok");
    guest.root("systemd-analyze verify /usr/lib/systemd/system/laterna.service");
    for script in ["bash-completion/completions/laterna", "zsh/vendor-completions/_laterna"] {
        guest.root(&format!("test -s /usr/share/{script}"));
    }

    guest.step("systemctl enable --now laterna");
    guest.root(&format!("cat > /etc/laterna/laterna.toml <<'END'{CONFIG}END\nlaterna config check"));
    guest.root("systemctl enable --now laterna");
    let status = guest.root("systemctl show -p StatusText --value laterna");
    assert!(status.starts_with("broadcasting pattern 320x180 to nobody"), "{status}");
    let (code, log) = (guest.root("cat /var/lib/laterna/code"), guest.root("journalctl --no-pager -u laterna"));
    assert!(log.contains("INFO laterna::") && !log.contains(&code), "{log}");
    code
}

/// Judges what the service may do: by systemd, and by what it is refused.
fn sandbox(guest: &Guest) {
    guest.step("systemd-analyze security laterna");
    let judged = guest.root("systemd-analyze security --no-pager --threshold=20 laterna");
    println!("{}", judged.lines().last().unwrap_or_default());
    let thread = "ps -L -o ni=,comm= -p $(systemctl show -p MainPID --value laterna)";
    assert!(guest.root(thread).contains("-10 encode-"), "{}", guest.root(thread));
    let user = guest.root("ps -o uid= -p $(systemctl show -p MainPID --value laterna)").trim().parse().unwrap();
    assert!(DYNAMIC_USERS.contains(&user), "{user}");

    guest.step("a camera within the service's walls, and nothing else");
    guest.root("modprobe vivid n_devs=1 && udevadm settle && test -c /dev/video0");
    // A device that everybody may read, but for the unit.
    guest.root("chmod o+r /dev/ttyS0");
    // The same unit with another command: what it says of devices, folders and rights holds for that.
    let probe = "exec 3<>/dev/video0 && ! touch /etc/laterna/new && ! head -c0 /dev/ttyS0 && ! ls /home/lab && ! ls /root && touch $STATE_DIRECTORY/new";
    let edits = [
        ("ExecStart=.*", format!("ExecStart=/bin/sh -c \"{}\"", probe.replace("$", "$$").replace("&", "\\&"))),
        ("Type=.*", "Type=oneshot".to_owned()),
        ("WatchdogSec=.*", String::new()),
        ("Restart=.*", String::new()),
        ("StateDirectory=.*", "StateDirectory=lab-probe".to_owned()),
        ("RuntimeDirectory=.*", "RuntimeDirectory=lab-probe".to_owned()),
    ];
    let edits: String = edits.iter().map(|(from, to)| format!(" -e 's|^{from}|{to}|'")).collect();
    let unit = "/run/systemd/system/lab-probe.service";
    guest.root(&format!("sed{edits} /usr/lib/systemd/system/laterna.service > {unit} && systemctl daemon-reload"));
    guest.root("systemctl start lab-probe || { systemctl status --no-pager lab-probe; exit 1; }");
    guest.root(&format!("rm -r {unit} /var/lib/private/lab-probe /var/lib/lab-probe && systemctl daemon-reload"));
}

/// Makes the encoder hang under a viewer, and awaits that the service manager starts it again.
fn watchdog(guest: &Guest, viewer: &Viewer) {
    guest.step("an encoder that hangs: the watchdog starts it again");
    viewer.marks();
    let unit = "/run/systemd/system/laterna.service.d";
    let text = "[Service]\\nWatchdogSec=10\\nEnvironment=LATERNA_TEST_FAULTS=/run/lab-faults\\n";
    guest.root("mkdir -p /run/lab-faults && touch /run/lab-faults/encode-hang");
    guest.root(&format!("mkdir -p {unit} && printf '{text}' > {unit}/hang.conf && systemctl daemon-reload"));
    guest.root("systemctl restart laterna");
    // The page comes back by itself, asks for a picture, and the encoder hangs.
    guest.awaits("test $(systemctl show -p NRestarts --value laterna) -ge 1", LONG);
    assert!(guest.root("journalctl --no-pager -u laterna").contains("Watchdog timeout"));
    guest.root(&format!("rm -r {unit} /run/lab-faults && systemctl daemon-reload && systemctl restart laterna"));
    viewer.comes_back();
    viewer.sees_the_card();
}

fn reboot(guest: &Guest, viewer: &Viewer, code: &str) {
    guest.step("reboot");
    viewer.marks();
    guest.reboot();
    assert_eq!(guest.root("systemctl is-active laterna; cat /var/lib/laterna/code"), format!("active\n{code}"));
    viewer.comes_back();
    viewer.sees_the_card();
}

/// Changes the config file under a viewer, who notices nothing; then breaks it, which changes nothing.
fn reload(guest: &Guest, viewer: &Viewer) {
    guest.step("systemctl reload laterna, under a viewer");
    viewer.marks();
    let process = guest.root("systemctl show -p MainPID --value laterna");
    let file = "/etc/laterna/laterna.toml";
    guest.root(&format!("printf 'name = \"Room 12\"\\nbitrate = \"1M\"\\n' >> {file} && systemctl reload laterna"));
    guest.awaits("laterna status | grep -q \"Room 12\"", LONG);
    viewer.sees_the_card();
    guest.root(&format!("cp {file} /tmp/kept && echo 'max-viewers = 0' >> {file} && ! systemctl reload laterna"));
    assert!(guest.root("journalctl --no-pager -u laterna").contains("max-viewers = 0"));
    guest.root(&format!("cp /tmp/kept {file} && systemctl reload laterna"));
    viewer.sees_the_card();
    assert_eq!(guest.root("systemctl show -p MainPID --value laterna"), process);
    assert!(viewer.0.run::<bool>("return window.laterna.pc === lt.kept", &[]), "the page had to connect again");
}

fn upgrade(guest: &Guest, viewer: &Viewer) {
    guest.step("an upgrade keeps the config and starts the service again");
    viewer.marks();
    // By the socket too, which is started again with the service.
    guest.root("systemctl stop laterna && systemctl enable --now laterna.socket laterna");
    viewer.comes_back();
    viewer.marks();
    let process = "systemctl show -p MainPID --value laterna";
    let config = guest.root("cat /etc/laterna/laterna.toml");
    let (before, version) = (guest.root(process), guest.root("dpkg-query -W -f '${Version}' laterna"));
    guest.root("apt-get install -y /host/second.deb");
    let (after, newer) = (guest.root(process), guest.root("dpkg-query -W -f '${Version}' laterna"));
    assert!(before != after && after != "0" && version != newer, "{before} {after} {version} {newer}");
    assert_eq!(guest.root("cat /etc/laterna/laterna.toml"), config);
    let units = "systemctl is-enabled laterna laterna.socket; systemctl is-active laterna laterna.socket";
    assert_eq!(guest.root(units), "enabled\nenabled\nactive\nactive");
    viewer.comes_back();
    viewer.sees_the_card();
}

/// The desktop of a user: a screen, a session that systemd is told of, and the user's own unit.
fn desktop(guest: &Guest, viewer: &Viewer) {
    guest.step("a user's unit with a screen");
    guest.root("systemctl disable --now laterna.socket && systemctl stop laterna");
    let user = |line: &str| guest.user("lab", line);
    user("systemd-run --user --unit=screen Xvfb :7 -screen 0 320x180x24 -nolisten tcp");
    guest.user_awaits("lab", "xset -display :7 q", LONG);
    user("systemd-run --user --unit=clock --setenv=DISPLAY=:7 xclock -update 1 -geometry 320x180+0+0");
    user(
        "mkdir -p ~/.config/laterna ~/.config/systemd/user && printf 'fps = 5\\naudio = \"off\"\\nnetwork = [\"eth1\"]\\n' > ~/.config/laterna/laterna.toml",
    );
    user("printf '[Unit]\\nBindsTo=graphical-session.target\\n' > ~/.config/systemd/user/desktop.target");
    user(
        "systemctl --user set-environment DISPLAY=:7 && systemctl --user daemon-reload && systemctl --user -q enable laterna",
    );
    user("systemctl --user start desktop.target");
    guest.user_awaits("lab", "systemctl --user is-active laterna", LONG);
    let status: Value = serde_json::from_str(&user("laterna status --json")).unwrap();
    assert!(status["source"]["what"].as_str().unwrap().starts_with("screen"), "{status}");

    viewer.open(&user("cat ~/.local/state/laterna/code"));
    let script = "const before = (await lt.stats()).framesDecoded;
        for (const end = performance.now() + args[0]; performance.now() < end; await lt.pass(100)) {
          const { framesDecoded } = await lt.stats();
          if (framesDecoded >= before + 3) return lt.size();
        }
        throw new Error('the clock stands still')";
    assert_eq!(viewer.0.run::<[u16; 2]>(script, &[millis(LONG)]), SIZE);

    user("systemctl --user stop desktop.target");
    guest.user_awaits("lab", "! systemctl --user is-active laterna", LONG);
    user("systemctl --user stop clock screen; systemctl --user -q disable laterna; rm -r ~/.config ~/.local");
}

fn remove(guest: &Guest) {
    guest.step("removal stops it and keeps what is its user's; purging leaves nothing");
    guest.root("systemctl start laterna");
    guest.root("apt-get remove -y laterna");
    let left = guest.root("pgrep -c laterna || :; ls /usr/bin/laterna /run/laterna 2>&1 || :");
    assert!(left.starts_with('0') && left.matches("No such file").count() == 2, "{left}");
    guest.root("test -s /etc/laterna/laterna.toml && test -s /var/lib/private/laterna/code");
    guest.root("apt-get purge -y laterna");
    assert_eq!(guest.root("find / /run /tmp -xdev -path /host -prune -o -name '*laterna*' -print"), "");
    assert_eq!(guest.root("systemctl list-unit-files --no-legend 'laterna*'; systemctl --failed --no-legend"), "");
}

#[test]
#[ignore = "needs a virtual machine: ./dev lab"]
fn the_package_lives_in_a_machine() {
    let guest = Guest::new();
    let code = install(&guest);
    guest.step("a browser outside sees it");
    let viewer = Viewer(Browser::start());
    viewer.open(&code);
    viewer.sees_the_card();
    sandbox(&guest);
    camera::cameras(&guest, &viewer, &code);
    watchdog(&guest, &viewer);
    reboot(&guest, &viewer, &code);
    reload(&guest, &viewer);
    upgrade(&guest, &viewer);
    desktop(&guest, &viewer);
    remove(&guest);
    guest.step("done");
}
