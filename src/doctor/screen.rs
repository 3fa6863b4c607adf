//! Verdicts on what can be shown: the display, a picture of it, cameras. Pure.

use std::time::Duration;

use super::{Finding, Level};
use crate::frame::Size;
use crate::source::x11::probe::{Probe, SharedMemory};
use crate::source::{Kind, SourceSpec};

/// A first picture that takes longer is late for whoever watches.
const SLOW: Duration = Duration::from_millis(500);

/// What is known of the display.
#[derive(Debug, Clone)]
pub struct DisplayFacts {
    /// The source that is configured.
    pub asked: SourceSpec,
    /// `$DISPLAY`.
    pub display: Option<String>,
    /// Whether the session is one of Wayland.
    pub is_wayland: bool,
    /// What the desktop's portal is, where screens are captured by it.
    pub portal: Option<PortalFacts>,
    /// The displays of this machine that have a socket, as `$DISPLAY` names them.
    pub sockets: Vec<String>,
    /// What the server of `$DISPLAY` is, or why it can't be reached.
    pub probe: Option<Result<Probe, String>>,
}

/// What is known of the portal, by which a Wayland screen is shared.
#[derive(Debug, Clone)]
pub struct PortalFacts {
    /// What it offers, or why it can't be used; after a semicolon what to do.
    pub found: Result<String, String>,
    /// Whether PipeWire is there, by which the pictures come.
    pub has_pipewire: bool,
}

/// How bad it is that there is no screen.
fn without(asked: &SourceSpec) -> Level {
    let needs = |kind: &Kind| match kind {
        Kind::Screen(_) | Kind::Window(_) | Kind::Region(_) => Level::Fail,
        Kind::Auto => Level::Warn,
        Kind::Camera(_) | Kind::File { .. } | Kind::Image(_) | Kind::Pattern | Kind::Off => Level::Ok,
    };
    let overlays = asked.overlays.iter().map(|overlay| needs(&overlay.layer.kind));
    overlays.fold(needs(&asked.base.kind), Level::max)
}

/// Whether there is a display that can be captured without asking anybody.
pub fn is_there(facts: &DisplayFacts) -> bool {
    facts.portal.is_none() && matches!(&facts.probe, Some(Ok(probe)) if probe.lacks().is_none())
}

/// Judges the display.
pub fn display(facts: &DisplayFacts) -> Vec<Finding> {
    let bad = without(&facts.asked);
    let instead = if facts.asked.base.kind == Kind::Auto { ": the test card is shown" } else { "" };
    if let Some(portal) = facts.portal.as_ref().filter(|_| bad != Level::Ok) {
        return vec![judge_portal(portal, bad, instead)];
    }
    let probe = match &facts.probe {
        _ if bad == Level::Ok && !is_there(facts) => {
            return vec![Finding::ok("display", "none, and none is needed: the source is no screen")];
        }
        None => {
            let found = format!("DISPLAY is not set{instead}");
            let advice = match (facts.sockets.as_slice(), facts.is_wayland) {
                ([], true) => "this is a Wayland session: run laterna in it, where it finds the session bus, or log in to one \"on Xorg\"".to_owned(),
                ([], false) => "start an X server (for one without a monitor: Xvfb :1 -screen 0 1920x1080x24), or use --source pattern".to_owned(),
                (sockets, _) => format!(
                    "an X server listens at {}: set DISPLAY={}, and XAUTHORITY to the file of the user who is logged in there",
                    sockets.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
                    sockets[0]
                ),
            };
            return vec![Finding::new("display", bad, found, advice)];
        }
        Some(Err(error)) => {
            let finding = Finding::of_error("display", bad, error);
            return vec![Finding { found: format!("{}{instead}", finding.found), ..finding }];
        }
        Some(Ok(probe)) => probe,
    };
    let name = facts.display.as_deref().unwrap_or_default();
    if let Some(lack) = probe.lacks() {
        let advice = "use an X server with 24-bit colour and the extensions DAMAGE and XFIXES";
        return vec![Finding::new("display", bad, format!("{name} has {lack}{instead}"), advice)];
    }
    let told = format!("{name} is {} by {}", probe.size, probe.vendor);
    let mut findings = Vec::new();
    if probe.is_xwayland || facts.is_wayland {
        let found = format!(
            "{told}, in a Wayland session: it shows windows of X11 programs at most, and nothing of the desktop"
        );
        findings.push(Finding::new(
            "display",
            Level::Warn,
            found,
            "use --capture auto in the desktop's session, which asks the desktop for its screen; or log in to a session \"on Xorg\"",
        ));
    } else {
        findings.push(Finding::ok("display", told));
    }
    match probe.shared_memory {
        SharedMemory::Whole => {}
        SharedMemory::WithoutDescriptors => findings.push(Finding::new(
            "display",
            Level::Warn,
            "its MIT-SHM is older than 1.2: pictures go through its socket, which costs more",
            "use a newer X server, and not one on another machine",
        )),
        SharedMemory::None => findings.push(Finding::new(
            "display",
            Level::Warn,
            "it shares no memory (no MIT-SHM): pictures go through its socket, which costs more",
            "use an X server of this machine, with MIT-SHM",
        )),
    }
    if !probe.has_raw_motion {
        let found = "it has no XInput 2.1: the pointer's place is asked for again and again, which costs a little";
        findings.push(Finding::ok("display", found));
    }
    if !probe.has_randr {
        findings.push(Finding::ok("display", "it has no RandR: its size does not change"));
    }
    findings
}

/// Judges the portal, and PipeWire behind it.
fn judge_portal(portal: &PortalFacts, bad: Level, instead: &str) -> Finding {
    match &portal.found {
        Err(error) => {
            let finding = Finding::of_error("display", bad, error);
            Finding { found: format!("{}{instead}", finding.found), ..finding }
        }
        Ok(told) if !portal.has_pipewire => {
            let found = format!("{told}; but PipeWire, by which the pictures come, is not there{instead}");
            let advice =
                "install pipewire and wireplumber, and start them: systemctl --user enable --now pipewire wireplumber";
            Finding::new("display", bad, found, advice)
        }
        Ok(told) => Finding::ok("display", told.clone()),
    }
}

/// A picture of the display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its extent.
    pub size: Size,
    /// From asking for it to having it.
    pub took: Duration,
    /// Whether all of it is black.
    pub is_black: bool,
}

/// Judges a capture.
pub fn capture(asked: &SourceSpec, captured: &Result<Captured, String>) -> Finding {
    let captured = match captured {
        Ok(captured) => captured,
        Err(error) => return Finding::of_error("capture", without(asked), error),
    };
    let told = format!("a picture of {} in {} ms", captured.size, captured.took.as_millis());
    if captured.is_black {
        let advice = "wake or unlock the screen (xset s off -dpms keeps it awake), or start something that draws";
        return Finding::new("capture", Level::Warn, format!("{told}, and all of it is black"), advice);
    }
    if captured.took > SLOW {
        let advice = "the X server is busy, or far away: see what else runs on this machine";
        return Finding::new("capture", Level::Warn, told, advice);
    }
    Finding::ok("capture", told)
}

/// A camera's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Its file.
    pub path: String,
    /// What the kernel calls it.
    pub name: String,
    /// What it would show, or why it can't be had and what to do: `found; advice`.
    pub shows: Result<String, String>,
}

/// Judges the cameras.
pub fn cameras(cameras: &[Camera]) -> Vec<Finding> {
    if cameras.is_empty() {
        return vec![Finding::ok("cameras", "none (no /dev/video* captures pictures)")];
    }
    let judge = |Camera { path, name, shows }: &Camera| match shows {
        Ok(shows) => Finding::ok("cameras", format!("{path} ({name}): {shows}")),
        // What is in use, by this daemon perhaps, or not to be opened, matters to whoever wants to show it.
        Err(error) => Finding::of_error("cameras", Level::Warn, &format!("{name}: {error}")),
    };
    cameras.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe {
            size: Size::new(1920, 1080),
            vendor: "The X.Org Foundation".to_owned(),
            is_xwayland: false,
            shared_memory: SharedMemory::Whole,
            has_damage: true,
            has_xfixes: true,
            has_randr: true,
            has_raw_motion: true,
            odd: None,
        }
    }

    fn facts(asked: SourceSpec, probe: Option<Result<Probe, String>>) -> DisplayFacts {
        let display = probe.is_some().then(|| ":0".to_owned());
        DisplayFacts { asked, display, is_wayland: false, portal: None, sockets: Vec::new(), probe }
    }

    #[test]
    fn no_display_is_as_bad_as_the_source_needs_one() {
        for (asked, level) in
            [(SourceSpec::SCREEN, Level::Fail), (SourceSpec::AUTO, Level::Warn), (SourceSpec::PATTERN, Level::Ok)]
        {
            for probe in [None, Some(Err("display :0 lets us not in; run as its user".to_owned()))] {
                let facts = facts(asked.clone(), probe);
                let findings = display(&facts);
                assert_eq!(findings.iter().map(|f| f.level).collect::<Vec<_>>(), [level]);
                assert_eq!(findings[0].advice.is_some(), level != Level::Ok, "{findings:?}");
                assert_eq!(findings[0].found.contains("test card"), level == Level::Warn, "{findings:?}");
                assert!(!is_there(&facts));
            }
        }
    }

    #[test]
    fn a_server_that_is_there_is_named_to_whoever_has_no_display() {
        let advice = |sockets: &[&str], is_wayland| {
            let sockets = sockets.iter().map(|name| (*name).to_owned()).collect();
            let facts = DisplayFacts { sockets, is_wayland, ..facts(SourceSpec::AUTO, None) };
            display(&facts)[0].advice.clone().unwrap_or_default()
        };
        assert!(advice(&[":0", ":1"], false).contains("DISPLAY=:0"));
        assert!(advice(&[], true).contains("on Xorg"));
        assert!(advice(&[], false).contains("Xvfb"));
    }

    #[test]
    fn what_a_server_lacks_is_told_by_how_bad_it_is() {
        let levels = |probe: Probe| {
            let findings = display(&facts(SourceSpec::SCREEN, Some(Ok(probe))));
            findings.into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(probe()), [Level::Ok]);
        assert_eq!(levels(Probe { is_xwayland: true, ..probe() }), [Level::Warn]);
        assert_eq!(levels(Probe { has_damage: false, ..probe() }), [Level::Fail]);
        assert_eq!(levels(Probe { has_xfixes: false, ..probe() }), [Level::Fail]);
        assert_eq!(levels(Probe { odd: Some("a depth of 8".to_owned()), ..probe() }), [Level::Fail]);
        assert_eq!(levels(Probe { shared_memory: SharedMemory::None, ..probe() }), [Level::Ok, Level::Warn]);
        assert_eq!(levels(Probe { has_raw_motion: false, has_randr: false, ..probe() }), [Level::Ok; 3]);
        let wayland = DisplayFacts { is_wayland: true, ..facts(SourceSpec::AUTO, Some(Ok(probe()))) };
        assert_eq!(display(&wayland)[0].level, Level::Warn);
    }

    #[test]
    fn a_wayland_screen_needs_its_portal_and_pipewire() {
        let judged = |asked: SourceSpec, found: Result<&str, &str>, has_pipewire| {
            let found = found.map(str::to_owned).map_err(str::to_owned);
            let portal = Some(PortalFacts { found, has_pipewire });
            let facts = DisplayFacts { is_wayland: true, portal, ..facts(asked, Some(Ok(probe()))) };
            assert!(!is_there(&facts), "a picture of it may open a dialog");
            display(&facts)
        };
        let none = Err("nobody answers; install xdg-desktop-portal");
        for (found, has_pipewire, level) in
            [(Ok("a portal"), true, Level::Ok), (Ok("a portal"), false, Level::Fail), (none, true, Level::Fail)]
        {
            let findings = judged(SourceSpec::SCREEN, found, has_pipewire);
            assert_eq!((findings.len(), findings[0].level), (1, level));
            assert_eq!(findings[0].advice.is_some(), level != Level::Ok);
        }
        assert_eq!(judged(SourceSpec::AUTO, none, true)[0].level, Level::Warn);
        assert_eq!(judged(SourceSpec::PATTERN, none, true)[0].level, Level::Ok);
    }

    #[test]
    fn a_capture_is_judged_by_its_picture_and_its_time() {
        let good = Captured { size: Size::new(640, 480), took: Duration::from_millis(9), is_black: false };
        let level = |captured: Result<Captured, String>| capture(&SourceSpec::SCREEN, &captured).level;
        assert_eq!(level(Ok(good.clone())), Level::Ok);
        assert_eq!(level(Ok(Captured { is_black: true, ..good.clone() })), Level::Warn);
        assert_eq!(level(Ok(Captured { took: SLOW * 2, ..good })), Level::Warn);
        assert_eq!(level(Err("nothing came".to_owned())), Level::Fail);
        assert_eq!(capture(&SourceSpec::AUTO, &Err("nothing came".to_owned())).level, Level::Warn);
    }

    #[test]
    fn a_camera_that_is_closed_to_us_is_a_matter_of_a_group() {
        let camera = |shows: Result<&str, &str>| Camera {
            path: "/dev/video0".to_owned(),
            name: "HD".to_owned(),
            shows: shows.map(str::to_owned).map_err(str::to_owned),
        };
        let closed = "/dev/video0 may not be opened; its group video may: sudo usermod -aG video $USER";
        let findings = cameras(&[camera(Ok("1280x720 30 fps MJPEG")), camera(Err(closed))]);
        assert_eq!(findings.iter().map(|f| f.level).collect::<Vec<_>>(), [Level::Ok, Level::Warn]);
        assert_eq!(findings[0].found, "/dev/video0 (HD): 1280x720 30 fps MJPEG");
        assert!(findings[1].advice.as_deref().is_some_and(|advice| advice.contains("video")));
        assert_eq!(cameras(&[]).len(), 1);
    }
}
