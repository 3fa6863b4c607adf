#![doc = include_str!("ARCHITECTURE.md")]

pub mod alive;
pub mod audio;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod encoder;
pub mod events;
pub mod fanout;
pub mod frame;
pub mod heap;
pub mod hooks;
pub mod ice_server;
pub mod id;
pub mod logs;
pub mod metrics;
mod orders;
pub mod private_file;
pub mod service;
pub mod session;
pub mod signaling;
pub mod source;
pub mod trouble;
