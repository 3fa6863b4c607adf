#![allow(clippy::unwrap_used)]
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::session::wake::{Interest, poll_until};

const PATIENCE: Duration = Duration::from_secs(10);

fn client(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next `count` datagrams, awaited: payload, sender, local address.
fn receive(socket: &mut MediaSocket, count: usize) -> Vec<(Vec<u8>, SocketAddr, SocketAddr)> {
    let deadline = Instant::now() + PATIENCE;
    let mut got = Vec::new();
    while got.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} datagrams arrived", got.len());
        poll_until([(socket.as_fd(), Interest::Readable)], Some(deadline)).unwrap();
        socket.receive(|datagram| got.push((datagram.data.to_vec(), datagram.from, datagram.to)));
    }
    got
}

fn push(batch: &mut SendBatch, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<(), BatchFull> {
    batch.push(1, from, to, 1500, |space| {
        space[..payload.len()].copy_from_slice(payload);
        payload.len()
    })
}

fn any(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

fn sockets() -> Vec<MediaSocket> {
    vec![MediaSocket::bind(0).unwrap(), MediaSocket::bind_family(Family::V4, 0).unwrap()]
}

/// Whether this machine has the address: one without IPv6 runs the rest of the test.
fn is_here(ip: &str) -> bool {
    let ip: IpAddr = ip.parse().unwrap();
    ip.is_ipv4() || local_addresses().unwrap().iter().any(|address| address.ip == ip)
}

#[test]
fn replies_leave_from_the_address_they_came_to() {
    for mut socket in sockets() {
        let mut batch = SendBatch::new(&socket);
        for (ours, theirs) in [("127.0.0.2", "127.0.0.1"), ("127.0.0.3", "127.0.0.9"), ("::1", "::1")] {
            let ours = SocketAddr::new(ours.parse().unwrap(), socket.local_port());
            if ours.is_ipv6() && !(socket.has_ipv6() && is_here(theirs)) {
                continue;
            }
            let viewer = client(theirs);
            viewer.send_to(b"hello", ours).unwrap();
            let got = receive(&mut socket, 1);
            assert_eq!(got, [(b"hello".to_vec(), viewer.local_addr().unwrap(), ours)]);
            for packets in [1, 3] {
                (0..packets).for_each(|_| push(&mut batch, got[0].2, got[0].1, b"reply").unwrap());
                assert_eq!(batch.flush(&socket, Instant::now()).sent, packets);
                for _ in 0..packets {
                    let mut buffer = [0; 100];
                    assert_eq!(viewer.recv_from(&mut buffer).unwrap(), (5, ours));
                }
            }
        }
    }
}

#[test]
fn segmentation_changes_no_datagram() {
    for ip in ["127.0.0.1", "::1"].into_iter().filter(|ip| is_here(ip)) {
        let mut socket = MediaSocket::bind(0).unwrap();
        let viewers = [client(ip), client(ip)];
        let sizes = [1200, 1200, 1200, 300, 1200, 1200, 50, 60, 60, 1, 1400].repeat(3);
        for segmentation in [true, false] {
            socket.segmentation = segmentation && socket.segmentation;
            let mut batch = SendBatch::new(&socket);
            for viewer in &viewers {
                for (i, size) in sizes.iter().enumerate() {
                    push(&mut batch, any(ip), viewer.local_addr().unwrap(), &vec![i as u8; *size]).unwrap();
                }
            }
            let report = batch.flush(&socket, Instant::now());
            assert_eq!((report.sent, report.dropped), (sizes.len() * 2, 0));
            assert_eq!(report.calls, if socket.segmentation { 1 } else { 2 }, "the kernel took the runs");
            for viewer in &viewers {
                for (i, size) in sizes.iter().enumerate() {
                    let mut buffer = [0; 2000];
                    let (length, from) = viewer.recv_from(&mut buffer).unwrap();
                    assert_eq!(from, SocketAddr::new(ip.parse().unwrap(), socket.local_port()));
                    assert_eq!(buffer[..length], vec![i as u8; *size]);
                }
            }
        }
    }
}

#[test]
fn a_closed_port_disturbs_nobody() {
    let mut socket = MediaSocket::bind(0).unwrap();
    let mut batch = SendBatch::new(&socket);
    let viewer = client("127.0.0.1");
    let closed = client("127.0.0.1").local_addr().unwrap();
    for i in 0..1000_u32 {
        let mut both = [(closed, 900), (viewer.local_addr().unwrap(), 4)];
        if i % 2 == 0 {
            both.reverse();
        }
        for (to, size) in both {
            let mut payload = vec![0; size];
            payload[..4].copy_from_slice(&i.to_be_bytes());
            push(&mut batch, any("127.0.0.1"), to, &payload).unwrap();
        }
        if i % 10 == 9 {
            assert_eq!(batch.flush(&socket, Instant::now()).dropped, 0);
            for expected in i - 9..=i {
                let mut buffer = [0; 1000];
                assert_eq!(viewer.recv(&mut buffer).unwrap(), 4);
                assert_eq!(buffer[..4], expected.to_be_bytes());
            }
        }
    }
    viewer.send_to(b"still here", (Ipv4Addr::LOCALHOST, socket.local_port())).unwrap();
    assert_eq!(receive(&mut socket, 1)[0].0, b"still here");
}

#[test]
fn a_destination_without_a_way_is_told_and_harms_no_other() {
    let socket = MediaSocket::bind_family(Family::V4, 0).unwrap();
    let viewer = client("127.0.0.1");
    let mut batch = SendBatch::new(&socket);
    push(&mut batch, any("127.0.0.1"), viewer.local_addr().unwrap(), b"one").unwrap();
    batch.push(7, any("::1"), "[::1]:9".parse().unwrap(), 100, |_| 10).unwrap();
    batch.push(8, any("127.0.0.1"), "255.255.255.255:9".parse().unwrap(), 100, |_| 10).unwrap();
    push(&mut batch, any("127.0.0.1"), viewer.local_addr().unwrap(), b"two").unwrap();
    let report = batch.flush(&socket, Instant::now());
    assert_eq!((report.sent, report.dropped, report.would_block), (2, 2, false));
    assert_eq!(batch.dropped().iter().map(|dropped| dropped.tag).collect::<Vec<_>>(), [7, 8]);
    let mut buffer = [0; 10];
    for expected in [b"one", b"two"] {
        let length = viewer.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], expected);
    }
}

#[test]
fn oversized_datagrams_are_dropped_and_counted() {
    let mut socket = MediaSocket::bind(0).unwrap();
    let viewer = client("127.0.0.1");
    let to = (Ipv4Addr::LOCALHOST, socket.local_port());
    for size in [2048, 2049, 9000, 0, 1] {
        viewer.send_to(&vec![3; size], to).unwrap();
    }
    let sizes: Vec<_> = receive(&mut socket, 3).iter().map(|got| got.0.len()).collect();
    assert_eq!(sizes, [2048, 0, 1]);
    assert_eq!(socket.counters(), ReceiveCounters { oversized: 2, errors: 0 });
}

#[test]
fn one_call_hands_over_a_bounded_number() {
    let mut socket = MediaSocket::bind(0).unwrap();
    let viewer = client("127.0.0.1");
    for i in 0..300_u16 {
        viewer.send_to(&i.to_be_bytes(), (Ipv4Addr::LOCALHOST, socket.local_port())).unwrap();
    }
    assert_eq!(socket.receive(|_| {}), MOST_PER_CALL);
    assert_eq!(receive(&mut socket, 300 - MOST_PER_CALL).last().unwrap().0, 299_u16.to_be_bytes());
    assert_eq!(socket.receive(|_| {}), 0);
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let socket = MediaSocket::bind(0).unwrap();
    let message = MediaSocket::bind(socket.local_port()).unwrap_err().to_string();
    assert!(message.contains(&socket.local_port().to_string()) && message.contains("--udp-port 0"), "{message}");
}

#[test]
fn a_small_send_buffer_is_told_with_the_way_out() {
    assert_eq!(small_buffer(2 * KERNEL_BUFFER), None);
    let advice = small_buffer(212_992).unwrap();
    assert!(advice.contains("106496") && advice.contains("net.core.wmem_max=4194304"), "{advice}");
}
