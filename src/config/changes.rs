//! What a daemon that runs takes over from a configuration that was read anew.

use super::RunConfig;
use super::tables::Tables;

/// Settings that differ, by their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that can change while the daemon runs.
    pub live: Vec<&'static str>,
    /// Those that hold from the next start on.
    pub fixed: Vec<&'static str>,
}

impl RunConfig {
    /// Takes over what can change from `wanted`, and says what differs.
    pub fn take_over(&mut self, wanted: &Self) -> Changes {
        let mut changes = Changes::default();
        // Every field is named, so that a new one can't be forgotten.
        let Self {
            source,
            fallback,
            name,
            listen,
            udp_port,
            codecs,
            bitrate,
            fps,
            size,
            fit,
            pointer,
            capture,
            max_viewers,
            auth,
            tls,
            sync,
            room,
            call,
            audio,
            signaling,
            ice_servers,
            public_ips,
            networks,
            control,
            control_group,
            origins,
            log,
            tables,
        } = self;
        live(&mut changes, "source", source, &wanted.source);
        live(&mut changes, "fallback", fallback, &wanted.fallback);
        live(&mut changes, "name", name, &wanted.name);
        fixed(&mut changes, "listen", listen, &wanted.listen);
        fixed(&mut changes, "udp-port", udp_port, &wanted.udp_port);
        fixed(&mut changes, "codec", codecs, &wanted.codecs);
        live(&mut changes, "bitrate", bitrate, &wanted.bitrate);
        live(&mut changes, "fps", fps, &wanted.fps);
        fixed(&mut changes, "size", size, &wanted.size);
        fixed(&mut changes, "fit", fit, &wanted.fit);
        live(&mut changes, "cursor", pointer, &wanted.pointer);
        live(&mut changes, "capture", capture, &wanted.capture);
        live(&mut changes, "max-viewers", max_viewers, &wanted.max_viewers);
        fixed(&mut changes, "auth", auth, &wanted.auth);
        fixed(&mut changes, "tls", tls, &wanted.tls);
        live(&mut changes, "sync", sync, &wanted.sync);
        fixed(&mut changes, "room", room, &wanted.room);
        live(&mut changes, "call", call, &wanted.call);
        live(&mut changes, "audio", audio, &wanted.audio);
        live(&mut changes, "signaling", signaling, &wanted.signaling);
        fixed(&mut changes, "ice-server", ice_servers, &wanted.ice_servers);
        fixed(&mut changes, "public-ip", public_ips, &wanted.public_ips);
        fixed(&mut changes, "network", networks, &wanted.networks);
        fixed(&mut changes, "control", control, &wanted.control);
        fixed(&mut changes, "control-group", control_group, &wanted.control_group);
        live(&mut changes, "allow-origin", origins, &wanted.origins);
        live(&mut changes, "log", log, &wanted.log);
        let Tables { scenes, codes, tokens, limits } = tables;
        live(&mut changes, "scenes", scenes, &wanted.tables.scenes);
        live(&mut changes, "codes", codes, &wanted.tables.codes);
        live(&mut changes, "tokens", tokens, &wanted.tables.tokens);
        live(&mut changes, "limits", limits, &wanted.tables.limits);
        changes
    }
}

fn live<T: PartialEq + Clone>(changes: &mut Changes, key: &'static str, running: &mut T, wanted: &T) {
    if running != wanted {
        running.clone_from(wanted);
        changes.live.push(key);
    }
}

fn fixed<T: PartialEq>(changes: &mut Changes, key: &'static str, running: &T, wanted: &T) {
    if running != wanted {
        changes.fixed.push(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::config::load::{Found, layer};
    use crate::config::setting::SETTINGS;

    fn config(text: &str) -> RunConfig {
        let found = Found { path: Path::new("f").into(), bytes: text.into() };
        layer(&Default::default(), Some(&found), "HOST").unwrap().config
    }

    #[test]
    fn what_can_change_is_taken_over_and_the_rest_is_named_each_time() {
        let mut running = config("fps = 20\nsize = \"640x360\"\n");
        let wanted = config("fps = 10\nsize = \"1280x720\"\nname = \"Room 12\"\n");
        let changes = running.take_over(&wanted);
        assert_eq!((changes.live, changes.fixed), (vec!["name", "fps"], vec!["size"]));
        assert_eq!(running, RunConfig { size: config("size = \"640x360\"").size, ..wanted.clone() });
        let again = running.take_over(&wanted);
        assert_eq!((again.live, again.fixed), (vec![], vec!["size"]));
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        let mut running = config("");
        assert_eq!(running.take_over(&config("")), Changes::default());
    }

    #[test]
    fn every_key_is_one_of_a_setting_and_the_manual_says_which_are_fixed() {
        let mut running = config("");
        let wanted = config(
            "source = \"pattern\"\nfallback = \"off\"\nfit = \"crop\"\ncapture = \"x11\"\nname = \"a\"\nlisten = \"off\"\nudp-port = 1\ncodec = \"h264\"\nbitrate = \"1M\"\nfps = 1\nsize = \"64x64\"\ncursor = \"off\"\n\
             max-viewers = 1\nauth = \"none\"\ntls = \"self-signed\"\nsync = \"lip\"\nroom = \"open\"\ncall = \"joined\"\naudio = \"off\"\nsignaling = \"mdn+ws://h\"\n\
             ice-server = \"stun:h\"\npublic-ip = \"192.0.2.1\"\nnetwork = \"eth0\"\ncontrol = \"/x\"\ncontrol-group = \"g\"\nallow-origin = \"https://h\"\nlog = \"warn\"\n",
        );
        let Changes { live, fixed } = running.take_over(&wanted);
        let of_another = ["auth-code-file", "tls-cert", "tls-key"];
        for setting in SETTINGS.iter().filter(|setting| !of_another.contains(&setting.key)) {
            assert!(live.contains(&setting.key) != fixed.contains(&setting.key), "{}", setting.key);
            assert_eq!(setting.at_start, fixed.contains(&setting.key), "{}", setting.key);
        }
    }
}
