//! The integration tests: the real binary, a real X server, real X clients, a real browser.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code: a failure is a panic, a report is printed")]

mod bad_input;
mod channel;
mod cli;
mod codecs;
mod codes;
mod config;
mod control;
mod doctor;
mod events;
mod everywhere;
mod faults;
mod firefox;
mod fuzz_corpus;
mod heard;
mod hostile;
mod ice_servers;
mod ice_tcp;
mod independent;
mod lab;
mod lab_wayland;
mod leaving;
mod lesson;
mod light;
mod manual;
mod mdn;
mod observe;
mod page;
mod peerconnection_client;
mod portal;
mod relay;
mod reload;
mod renewal;
mod room;
mod room_pages;
mod screen;
mod service;
mod shutdown;
mod signaled;
mod sizes;
mod soak;
mod socketio;
mod sound;
mod stage;
mod support_check;
mod switching;
mod tls;
mod units;
mod whip;
mod windows;

#[path = "../support/mod.rs"]
mod support;

#[path = "../fuzz/src/lib.rs"]
mod fuzz;
