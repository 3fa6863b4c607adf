#![allow(clippy::unwrap_used)]

use std::ffi::OsString;

use super::setting::Setting;
use super::*;
use crate::cli::{Invocation, parse};

mod manual;

fn resolve(flags: &[&str]) -> Result<RunConfig, String> {
    let words = ["laterna", "run"].iter().chain(flags).map(OsString::from);
    match parse(words).map_err(|error| error.to_string())? {
        Invocation::Run(args) => RunConfig::resolve(&args.written, "host").map_err(|errors| one_by_line(&errors)),
        other => Err(format!("{other:?}")),
    }
}

fn one_by_line(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_written_gives_the_contracts_defaults() {
    let expected = RunConfig {
        source: SourceSpec::AUTO,
        fallback: None,
        fit: FitMode::Letterbox,
        capture: CaptureBackend::Auto,
        name: "laterna@host".into(),
        listen: Listen::At(vec!["[::]:8888".parse().unwrap()]),
        udp_port: 8889,
        codecs: if cfg!(feature = "vp8") { vec![Codec::H264, Codec::Vp8] } else { vec![Codec::H264] },
        bitrate: Bitrate(2_500_000),
        fps: 30,
        size: None,
        pointer: true,
        max_viewers: 500,
        auth: AuthConfig::Code { file: None },
        tls: TlsConfig::Off,
        sync: SyncConfig::Auto,
        room: RoomPolicy::Closed,
        call: CallPolicy::None,
        audio: AudioSpec::Auto,
        signaling: Vec::new(),
        ice_servers: Vec::new(),
        public_ips: Vec::new(),
        networks: NetworkFilter::default(),
        control: None,
        control_group: None,
        origins: Default::default(),
        tables: Default::default(),
        log: LevelFilter::INFO,
    };
    assert_eq!(resolve(&[]).unwrap(), expected);
}

#[test]
fn everything_written_is_kept() {
    let flags = "--source pattern --fallback off --fit crop --capture x11 --name Room --listen 127.0.0.1:0,[::1]:80 --listen 127.0.0.1:0 --udp-port 0 --codec h264 --bitrate 800k \
                 --fps 1 --size 641x479 --cursor off --max-viewers 1 --auth code --auth-code-file /a/b --tls-cert /t/c --tls-key /t/k --room open --call glob:desk-?* --audio mic:USB --sync low-latency --log trace \
                 --signaling mdn+ws://h/,channel+wss://h/c?call=none --ice-server stun:h --public-ip 203.0.113.7 --network !docker*,eth0 --control /c/s";
    let mut networks = NetworkFilter::default();
    ["!docker*", "eth0"].iter().for_each(|rule| networks.add(rule).unwrap());
    let expected = RunConfig {
        source: SourceSpec::PATTERN,
        fallback: Some(SourceSpec::OFF),
        fit: FitMode::Crop,
        capture: CaptureBackend::X11,
        name: "Room".into(),
        listen: Listen::At(vec!["127.0.0.1:0".parse().unwrap(), "[::1]:80".parse().unwrap()]),
        udp_port: 0,
        codecs: vec![Codec::H264],
        bitrate: Bitrate(800_000),
        fps: 1,
        size: Some(Size::new(641, 479)),
        pointer: false,
        max_viewers: 1,
        auth: AuthConfig::Code { file: Some("/a/b".into()) },
        tls: TlsConfig::Files { certificate: "/t/c".into(), key: "/t/k".into() },
        sync: SyncConfig::LowLatency,
        room: RoomPolicy::Open,
        call: CallPolicy::parse("glob:desk-?*").unwrap(),
        audio: AudioSpec::Mic(Some("USB".into())),
        signaling: ["mdn+ws://h/", "channel+wss://h/c?call=none"].map(|url| SignalingUrl::parse(url).unwrap()).into(),
        ice_servers: vec![IceServer::parse("stun:h").unwrap()],
        public_ips: vec!["203.0.113.7".parse().unwrap()],
        networks,
        control: Some("/c/s".into()),
        control_group: None,
        origins: Default::default(),
        tables: Default::default(),
        log: LevelFilter::TRACE,
    };
    assert_eq!(resolve(&flags.split_whitespace().collect::<Vec<_>>()).unwrap(), expected);
    assert_eq!(resolve(&["--listen", "off", "--auth", "none"]).unwrap().listen, Listen::Off);
    assert_eq!(resolve(&["--auth", "none"]).unwrap().auth, AuthConfig::None);
}

#[test]
fn pictures_wait_for_the_sound_of_their_own_machine_only() {
    let mic = AudioSpec::Mic(None);
    for (sync, audio, expected) in [
        (SyncConfig::Auto, &AudioSpec::Auto, Sync::Lip),
        (SyncConfig::Auto, &AudioSpec::System, Sync::Lip),
        (SyncConfig::Auto, &mic, Sync::LowLatency),
        (SyncConfig::Lip, &mic, Sync::Lip),
        (SyncConfig::LowLatency, &AudioSpec::System, Sync::LowLatency),
    ] {
        assert_eq!(sync.resolve(audio), expected, "{sync:?} {audio:?}");
    }
}

#[test]
fn rates_are_read_exactly() {
    let table = [
        ("50k", 50_000),
        ("50000", 50_000),
        ("100M", 100_000_000),
        ("2.5m", 2_500_000),
        ("1.234567M", 1_234_567),
        ("0.1M", 100_000),
        ("99.9999999999999999999999999999K", 99_999),
    ];
    for (written, bits) in table {
        assert_eq!(resolve(&["--bitrate", written]).unwrap().bitrate, Bitrate(bits), "{written}");
    }
}

#[test]
fn what_can_not_be_parsed_says_what_was_asked_what_was_found_and_what_to_do() {
    let table: &[(&str, &str, &str)] = &[
        ("--source", "moon", "no source is called"),
        ("--source", "", "no source at all"),
        ("--source", "Screen", "no source is called"),
        ("--name", "", "an empty name"),
        ("--name", " ", "an empty name"),
        ("--name", "a\nb", "a control character"),
        ("--name", &"n".repeat(129), "too long a name"),
        ("--listen", "8888", "not an address"),
        ("--listen", ":8888", "not an address"),
        ("--listen", "localhost:8888", "not an address"),
        ("--listen", "127.0.0.1:65536", "not an address"),
        ("--listen", "127.0.0.1:80,", "not an address"),
        ("--listen", "off,127.0.0.1:80", "off beside an address"),
        ("--udp-port", "65536", "not a port"),
        ("--udp-port", "x", "not a port"),
        ("--udp-port", "", "not a port"),
        ("--codec", "h265", "no codec of that name"),
        ("--codec", "h264,", "no codec of that name"),
        ("--codec", "", "no codec of that name"),
        ("--bitrate", "fast", "not a rate"),
        ("--bitrate", "", "not a rate"),
        ("--bitrate", "k", "not a rate"),
        ("--bitrate", "1.k", "not a rate"),
        ("--bitrate", ".5M", "not a rate"),
        ("--bitrate", "1e6", "not a rate"),
        ("--bitrate", "inf", "not a rate"),
        ("--bitrate", "2.5 M", "not a rate"),
        ("--bitrate", "1G", "not a rate"),
        ("--bitrate", "0", "too low a rate"),
        ("--bitrate", "49999", "too low a rate"),
        ("--bitrate", "100.000001M", "too high a rate"),
        ("--bitrate", "99999999999999999999999999M", "too high a rate"),
        ("--fps", "0", "too low"),
        ("--fps", "121", "too high"),
        ("--fps", "29.97", "not a whole number"),
        ("--size", "1280", "not a size"),
        ("--size", "1280x", "not a size"),
        ("--size", "x720", "not a size"),
        ("--size", "axb", "not a size"),
        ("--size", "1280x720x30", "not a size"),
        ("--size", "99999999999x720", "not a size"),
        ("--size", "15x16", "too small"),
        ("--size", "3841x2160", "too large"),
        ("--size", "2161x2161", "too large"),
        ("--cursor", "yes", "neither on nor off"),
        ("--max-viewers", "0", "too low"),
        ("--max-viewers", "10001", "too high"),
        ("--auth", "password", "no such way to sign in"),
        ("--tls", "yes", "no certificate"),
        ("--tls-cert", "/c", "a certificate without its key"),
        ("--tls-key", "/k", "a key without its certificate"),
        ("--tls-key", "", "a key without its certificate"),
        ("--room", "", "no such room"),
        ("--room", "ajar", "no such room"),
        ("--call", "", "nobody that can be called"),
        ("--call", "alice", "nobody that can be called"),
        ("--call", "glob:", "nobody that can be called"),
        ("--audio", "loud", "no such sound"),
        ("--audio", "mic:", "no such sound"),
        ("--log", "off", "no such level"),
        ("--log", "INFO", "no such level"),
    ];
    for (flag, value, found) in table {
        let line = resolve(&[flag, value]).unwrap_err();
        assert!(line.starts_with(flag), "{flag} {value}: {line}");
        assert!(line.contains(found) && line.contains("; "), "{flag} {value}: {line}");
        assert!(!line.contains("not yet") && !line.contains('\n'), "{flag} {value}: {line}");
    }
}

#[test]
fn what_comes_later_is_refused_as_not_yet() {
    let table = [("--codec", "av1"), ("--codec", "h264,av1"), ("--audio", "system+mic")];
    for (flag, value) in table {
        let line = resolve(&[flag, value]).unwrap_err();
        assert!(line.starts_with(flag) && line.contains("not yet"), "{flag} {value}: {line}");
    }
}

#[cfg(feature = "vp8")]
#[test]
fn codecs_are_taken_in_the_order_of_preference() {
    for (value, codecs) in [
        ("vp8", &[Codec::Vp8][..]),
        ("h264", &[Codec::H264]),
        ("vp8,h264", &[Codec::Vp8, Codec::H264]),
        ("h264,vp8", &[Codec::H264, Codec::Vp8]),
        ("vp8,vp8", &[Codec::Vp8]),
    ] {
        assert_eq!(resolve(&["--codec", value]).unwrap().codecs, codecs, "{value}");
    }
}

#[cfg(not(feature = "vp8"))]
#[test]
fn a_codec_that_is_not_built_in_is_refused() {
    for value in ["vp8", "h264,vp8"] {
        let line = resolve(&["--codec", value]).unwrap_err();
        assert!(line.starts_with("--codec") && line.contains("built without VP8"), "{line}");
    }
}

#[test]
fn servers_and_networks_that_are_none_are_refused_and_passwords_not_repeated() {
    for (flags, expected) in [
        ("--signaling http://h", "no such protocol"),
        ("--signaling mdn+ws://me:hunter2@h", "a password in a URL"),
        ("--signaling mdn+ws://h?call=all", "the option call"),
        ("--signaling whip+http://h?call=joined", "whip has no option call"),
        ("--ice-server turn:h?user=u&secret-file=/s", "two ways to sign in; give either"),
        ("--ice-server h", "not a STUN or TURN server"),
        ("--ice-server turn:me:hunter2@h", "a password in a URL"),
        ("--ice-server turn:h", "no way to sign in"),
        ("--public-ip moon", "not an IP address"),
        ("--public-ip 127.0.0.1", "not an address that others reach"),
        ("--public-ip 203.0.113.7,203.0.113.8", "a second address"),
        ("--network 10.0.0.0/40", "neither an interface"),
    ] {
        let error = resolve(&flags.split_whitespace().collect::<Vec<_>>()).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{flags}: {error}");
    }
}

#[test]
fn a_server_that_is_the_daemon_itself_is_found() {
    let own = |flags: &str| {
        let config = resolve(&flags.split_whitespace().collect::<Vec<_>>()).unwrap();
        config.own_signaling(|host| host == "me").map(|own| own.label().to_string())
    };
    assert_eq!(own("--signaling peerconnection+http://me:8888").as_deref(), Some("peerconnection+http://me:8888/"));
    assert_eq!(
        own("--listen [::]:80 --signaling channel+ws://you:80,whip+http://me/w").as_deref(),
        Some("whip+http://me/w")
    );
    for other in ["me:8889", "you:8888"] {
        assert_eq!(own(&format!("--signaling peerconnection+http://{other}")), None);
    }
    assert_eq!(own("--listen off --signaling peerconnection+http://me:8888"), None);
}
