use crate::stage::*;
use crate::support::browser::Browser;
use crate::support::daemon::Setup;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;
use serde_json::{Value, json};
use std::time::Duration;
#[test]
#[ignore]
fn lo() {
    for args in [
        &[][..],
        &["--allow-loopback-in-peer-connection"],
        &["--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns"],
    ] {
        let browser = Browser::start_with(args);
        let daemon = Setup::new(&["--source", "pattern"]).start();
        browser.open(&daemon.page());
        let r: Value = browser.run("const pc = new RTCPeerConnection(); const c=[]; pc.onicecandidate = e => c.push(e.candidate?.candidate ?? 'end'); pc.addTransceiver('video',{direction:'recvonly'}); await pc.setLocalDescription(); await new Promise(ok=>setTimeout(ok,1500)); return [c, pc.iceGatheringState, pc.iceConnectionState, await lt.stats(), window.laterna.pc?.remoteDescription?.sdp.match(/a=cand.*/g)]", &[]);
        println!("XX {args:?} {r:#}");
    }
}
#[test]
#[ignore]
fn storm() {
    let screen = Xvfb::start(1920, 1080);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let stage =
        Stage::open(&Setup::new(&["--source", "screen", "--log", "trace"]).display(&screen.display()), screen.size());
    stage.browser.run::<Value>("lt.watch(...args)", &[stage.size()]);
    let drawing = client.draw_steadily(10, XClient::scroll);
    stage.browser.run::<Value>("await new Promise(ok=>setTimeout(ok,5000))", &[]);
    println!("XX {:#}", stage.stats());
    let (client, _) = drawing.stop();
    stage.browser.run::<Value>("await new Promise(ok=>setTimeout(ok,8000))", &[]);
    println!("XX {:#}", stage.stats());
    drop(client);
    println!("XX log\n{}", stage.daemon.log().tail(3000));
}
