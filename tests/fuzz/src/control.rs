//! The control socket: bytes → lines → requests and replies, and what is shown of them.

use laterna::config::one_line;
use laterna::control::lines::Lines;
use laterna::control::wire::{Complaint, Reply, Request, Server};
use laterna::control::{print, target};

use super::input::assert_one_line;

/// Bytes of the longest line taken here.
const LIMIT: usize = 2048;

pub fn run(data: &[u8]) {
    let step = usize::from(data.first().copied().unwrap_or_default()).max(1);
    let lines = split(data, data.len().max(1));
    assert_eq!(lines, split(data, step), "by {step}");
    assert!(lines.len() <= data.len() + 1);
    let (mut called, mut servers) = (Vec::new(), Vec::<Server>::new());
    for line in lines.iter().flatten() {
        assert!(line.len() <= LIMIT && !line.contains(&b'\n'));
        match Request::parse(line) {
            Ok(request) => {
                assert_eq!(Request::parse(end_cut(&request.line())), Ok(request.clone()));
                called.extend(if let Request::Call { peer, server } = request { Some((peer, server)) } else { None });
            }
            Err(complaint) => assert_complaint(&complaint),
        }
        if let Ok(reply) = Reply::parse(line) {
            assert_eq!(Reply::parse(end_cut(&reply.line())), Ok(reply.clone()));
            shown(&reply).lines().for_each(assert_one_line);
            servers.extend(if let Reply::Peers(peers) = reply { peers } else { Vec::new() });
        }
    }
    for (peer, server) in called {
        match target::resolve(&servers, &peer, server.as_deref()) {
            Ok((index, found)) => assert!(servers[index].peers.contains(found)),
            Err(complaint) => assert_complaint(&complaint),
        }
    }
}

fn split(data: &[u8], step: usize) -> Vec<Option<Vec<u8>>> {
    let (mut lines, mut found) = (Lines::new(LIMIT), Vec::new());
    for chunk in data.chunks(step) {
        lines.handle_bytes(chunk);
        found.extend(std::iter::from_fn(|| lines.poll_line()).map(Result::ok));
    }
    found
}

/// A line that was written, without its end, which is the only one.
fn end_cut(line: &str) -> &[u8] {
    let cut = line.strip_suffix('\n').unwrap_or_else(|| panic!("{line:?} has no end"));
    assert!(!cut.contains('\n'), "{line:?} is several");
    cut.as_bytes()
}

fn assert_complaint(complaint: &Complaint) {
    assert_one_line(&complaint.message);
    let line = Reply::Error(complaint.clone()).line();
    assert_eq!(Reply::parse(end_cut(&line)), Ok(Reply::Error(complaint.clone())));
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Status(status) => print::status(status),
        Reply::Peers(servers) => print::peers(servers),
        Reply::Called(called) => print::called(called),
        Reply::Kicked(kicked) => print::kicked(kicked),
        Reply::Switched(switched) => print::switched(switched),
        Reply::Codes(codes) => print::codes(codes),
        Reply::CodeAdded(code) => print::added(code),
        Reply::CodeRevoked(revoked) => print::revoked(revoked),
        Reply::Event(happened) => print::event(happened),
        Reply::Error(complaint) => one_line(&complaint.message),
    }
}
