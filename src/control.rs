//! The control socket: how an operator asks a running daemon, and tells it what to do.
//!
//! JSON lines over a unix socket that only its owner may use ([`socket`]): a request a line, a reply a line, both typed and with the version
//! of the protocol ([`wire`]). [`server`] is the daemon's end, [`client`] that of the commands; [`lines`] and [`target`] are pure cores.
//!
//! ```text
//! > {"laterna":1,"ask":"kick","viewer":3}
//! < {"laterna":1,"kicked":{"viewer":3,"at":"whep","name":"192.0.2.7"}}
//! > {"laterna":1,"ask":"kick","viewer":3}
//! < {"laterna":1,"error":{"kind":"unknown","message":"no viewer has the number 3; `laterna status` lists them"}}
//! ```

pub mod client;
pub mod lines;
pub mod print;
pub mod server;
pub mod socket;
pub mod target;
pub mod wire;
