//! What changes while a session lives: ICE restarts and further offers, after which the picture goes on over the same connection.

use serde_json::{Value, json};

use crate::room_pages::InRoom;
use crate::stage::{CAME, GONE, SOON, Stage, millis};
use crate::support::daemon::Setup;
use crate::support::heavy;

const PATTERN: (u16, u16) = (1280, 720);

/// Awaits that Chromium's transport uses ICE credentials of its own which begin with `ufrag`, and is connected.
const RENEWED: &str = "
    const renewed = async (pc, ufrag, ms) => {
      const end = performance.now() + ms;
      for (;;) {
        const all = [...(await pc.getStats()).values()];
        const transport = all.find(({ type }) => type === 'transport');
        const pair = all.find(({ id }) => id === transport.selectedCandidatePairId);
        const local = all.find(({ id }) => id === pair?.localCandidateId);
        if (local?.usernameFragment === ufrag && transport.iceState === 'connected' && transport.dtlsState === 'connected') return;
        if (performance.now() > end) throw new Error(`not renewed: ${JSON.stringify([ufrag, transport, pair, local])}`);
        await lt.pass(50);
      }
    };
    const ufragOf = (sdp) => sdp.match(/^a=ice-ufrag:(.*)$/m)[1].trim();";

#[test]
fn an_ice_restart_by_whep_goes_on() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern"]), PATTERN);
    let script = format!(
        "{RENEWED}
        const [code, ms, size] = args;
        const {{ pc, video, location }} = lt.viewers[await lt.connect({{ code }})];
        const now = await lt.number(0, ms, size, video);
        const before = pc.localDescription.sdp;
        pc.restartIce();
        await pc.setLocalDescription(await pc.createOffer());
        const offer = pc.localDescription.sdp;
        const ice = offer.match(/^a=ice-(ufrag|pwd):.*$/gm).slice(0, 2).map((line) => line.trim());
        const body = [...ice, 'm=video 9 UDP/TLS/RTP/SAVPF 0', 'a=mid:0', ''].join('\\r\\n');
        const headers = {{ 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' }};
        const reply = await fetch(location, {{ method: 'PATCH', headers, body }});
        const fragment = await reply.text();
        if (reply.status !== 200) throw new Error(`${{reply.status}} ${{fragment}}`);
        const lines = fragment.split('\\r\\n');
        const own = (name) => lines.find((line) => line.startsWith(`a=${{name}}:`));
        if (reply.headers.get('ETag') !== `\"${{own('ice-ufrag').slice(12)}}\"`) throw new Error('another tag: ' + reply.headers.get('ETag'));
        const candidates = lines.filter((line) => line.startsWith('a=candidate:')).join('\\r\\n');
        const sdp = pc.currentRemoteDescription.sdp
          .replace(/^a=(candidate:.*|end-of-candidates)\\r\\n/gm, '')
          .replace(/^a=ice-ufrag:.*$/gm, own('ice-ufrag') + '\\r')
          .replace(/^a=ice-pwd:.*$/gm, own('ice-pwd') + '\\r').replace(/\\r\\r/g, '\\r');
        await pc.setRemoteDescription({{ type: 'answer', sdp: sdp + candidates + '\\r\\n' }});
        if (ufragOf(offer) === ufragOf(before)) throw new Error('the browser did not restart');
        await renewed(pc, ufragOf(offer), ms);
        const then = await lt.number(now.number, ms, size, video);
        await lt.number(then.number + 30, ms, size, video);
        return [pc.connectionState, (await lt.stats(pc)).framesDropped]"
    );
    let (state, _): (String, Value) =
        stage.browser.run(&script, &[json!(stage.daemon.code()), millis(SOON), stage.size()]);
    assert_eq!(state, "connected");
    stage.goes_on();
    assert_eq!(
        (stage.daemon.count_logged(CAME), stage.daemon.count_logged(GONE)),
        (2, 0),
        "no session was made or lost"
    );
    stage.daemon.stop();
}

#[test]
fn further_offers_in_the_room_change_the_session_and_keep_it() {
    let _machine = heavy();
    let room = InRoom::open("/room_offers.html", &["--audio", "off"]);
    let negotiate = |script: &str| room.browser.run::<String>(&format!("{script}; return room.negotiate()"), &[]);
    let of = |answer: &str, kind: &str| -> String {
        let section = answer.split("\r\nm=").find(|section| section.starts_with(kind));
        section.unwrap_or_else(|| panic!("no {kind} in {answer}")).to_owned()
    };
    let ufrag = |answer: &str| of(answer, "video").split("a=ice-ufrag:").nth(1).unwrap()[..4].to_owned();

    let first = negotiate("room.pc.addTransceiver('video', { direction: 'recvonly' })");
    room.goes_on();

    // There is no sound: it is declined, and the pictures go on.
    let second = negotiate("room.pc.addTransceiver('audio', { direction: 'recvonly' })");
    let sound = of(&second, "audio");
    assert!(sound.contains("a=inactive") || sound.starts_with("audio 0 "), "{sound}");
    assert_eq!(ufrag(&first), ufrag(&second), "nobody asked for an ICE restart");
    room.goes_on();

    let third = negotiate("room.pc.getTransceivers()[0].direction = 'inactive'");
    assert!(of(&third, "video").contains("a=inactive"), "{third}");
    room.daemon.logged(&["encoder stopped"], SOON);
    let count = "const packets = async () => [...(await room.pc.getStats()).values()].find(({ type }) => type === 'inbound-rtp')?.packetsReceived ?? 0;
                 const before = await packets();
                 await lt.pass(1000);
                 return await packets() - before";
    assert_eq!(room.browser.run::<u32>(count, &[]), 0, "packets of a picture that nobody wants");

    let fourth = negotiate("room.pc.getTransceivers()[0].direction = 'recvonly'");
    assert!(of(&fourth, "video").contains("a=sendonly"), "{fourth}");
    room.goes_on();

    let fifth = negotiate("room.pc.restartIce()");
    assert_ne!(ufrag(&fourth), ufrag(&fifth), "new credentials are answered with new ones");
    let script = format!("{RENEWED}; await renewed(room.pc, ufragOf(room.pc.localDescription.sdp), args[0])");
    room.browser.run::<Value>(&script, &[millis(SOON)]);
    room.goes_on();

    assert_eq!((room.daemon.count_logged(CAME), room.daemon.count_logged(GONE)), (1, 0), "it is one session");
    assert_eq!(room.errors(), [""; 0]);
    room.leaves();
    room.daemon.stop();
}
