//! What tests of captured X servers need: servers (Xvfb), X clients that draw, and frames.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, PropMode, Rectangle};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use crate::alive::Watch;
use crate::frame::{Damage, Frame, Rect, Size};
use crate::orders::Health;
use crate::source::{FrameSink, Source, SourceError, SourceOptions, SourceSpec};

pub(in crate::source) const DEADLINE: Duration = Duration::from_secs(20);
/// How long nothing must happen to be called still.
pub(in crate::source) const STILL: Duration = Duration::from_millis(800);

/// An X server of our own.
pub(in crate::source) struct Xvfb {
    pub(in crate::source) process: Child,
    pub(in crate::source) display: String,
}

impl Xvfb {
    pub(in crate::source) fn start(geometry: &str) -> Self {
        Self::start_with(&["-screen", "0", geometry])
    }

    pub(in crate::source) fn start_with(arguments: &[&str]) -> Self {
        let mut process = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-ac"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed");
        let mut number = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut number).unwrap();
        Self { process, display: format!(":{}", number.trim()) }
    }

    pub(in crate::source) fn painter(&self) -> Painter {
        let (connection, screen) = RustConnection::connect(Some(&self.display)).unwrap();
        let root = connection.setup().roots[screen].root;
        let (window, gc) = (connection.generate_id().unwrap(), connection.generate_id().unwrap());
        connection.create_gc(gc, root, &xproto::CreateGCAux::new()).unwrap();
        Painter { connection, root, window, gc }
    }

    pub(in crate::source) fn source(&self, options: SourceOptions) -> (Source, Receiver<Frame>) {
        self.open("screen", options).unwrap()
    }

    /// Opens a source of one layer.
    pub(in crate::source) fn open(
        &self,
        spec: &str,
        options: SourceOptions,
    ) -> Result<(Source, Receiver<Frame>), SourceError> {
        let (sender, frames) = sync_channel(1_000);
        let sink: FrameSink = Arc::new(move |frame| drop(sender.send(frame)));
        let layer = SourceSpec::parse(spec).unwrap().base;
        Source::open_on(Some(&self.display), &layer, &options, sink, &Watch::new().0).map(|source| (source, frames))
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// An X client.
pub(in crate::source) struct Painter {
    pub(in crate::source) connection: RustConnection,
    pub(in crate::source) root: xproto::Window,
    pub(in crate::source) window: xproto::Window,
    gc: xproto::Gcontext,
}

impl Painter {
    /// Covers a part of the screen with a window to draw in.
    pub(in crate::source) fn open_window(&self, x: i16, y: i16, width: u16, height: u16) {
        let values = xproto::CreateWindowAux::new().override_redirect(1).background_pixel(0x10_2030);
        let (depth, visual) = (x11rb::COPY_DEPTH_FROM_PARENT, x11rb::COPY_FROM_PARENT);
        let class = xproto::WindowClass::INPUT_OUTPUT;
        let (window, root) = (self.window, self.root);
        self.connection.create_window(depth, window, root, x, y, width, height, 0, class, visual, &values).unwrap();
        self.connection.map_window(window).unwrap();
        self.connection.sync().unwrap();
    }

    /// Gives the window a title.
    pub(in crate::source) fn name_window(&self, title: &str) {
        let (replace, name) = (PropMode::REPLACE, AtomEnum::WM_NAME);
        let title = title.as_bytes();
        self.connection.change_property8(replace, self.window, name, AtomEnum::STRING, title).unwrap();
        self.connection.sync().unwrap();
    }

    /// Moves, resizes or restacks the window.
    pub(in crate::source) fn configure(&self, values: &xproto::ConfigureWindowAux) {
        self.connection.configure_window(self.window, values).unwrap();
        self.connection.sync().unwrap();
    }

    pub(in crate::source) fn fill(
        &self,
        drawable: xproto::Drawable,
        rgb: u32,
        x: i16,
        y: i16,
        width: u16,
        height: u16,
    ) {
        self.connection.change_gc(self.gc, &xproto::ChangeGCAux::new().foreground(rgb)).unwrap();
        self.connection.poly_fill_rectangle(drawable, self.gc, &[Rectangle { x, y, width, height }]).unwrap();
        self.connection.sync().unwrap();
    }

    /// Moves the pointer as a mouse does.
    pub(in crate::source) fn move_pointer(&self, x: i16, y: i16) {
        let (motion, now) = (xproto::MOTION_NOTIFY_EVENT, x11rb::CURRENT_TIME);
        self.connection.xtest_fake_input(motion, 0, now, self.root, x, y, 0).unwrap();
        self.connection.sync().unwrap();
    }

    /// Moves the pointer as a program does.
    pub(in crate::source) fn warp_pointer(&self, x: i16, y: i16) {
        self.connection.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, x, y).unwrap();
        self.connection.sync().unwrap();
    }

    /// The whole screen as the server has it, in RGB.
    pub(in crate::source) fn screen(&self, size: Size) -> Vec<u32> {
        let (width, height, all) = (size.width as u16, size.height as u16, !0);
        let format = xproto::ImageFormat::Z_PIXMAP;
        let image = self.connection.get_image(format, self.root, 0, 0, width, height, all).unwrap().reply().unwrap();
        image.data.chunks_exact(4).map(rgb).collect()
    }
}

pub(in crate::source) fn rgb(bgrx: &[u8]) -> u32 {
    u32::from_le_bytes([bgrx[0], bgrx[1], bgrx[2], 0])
}

pub(in crate::source) fn pixels(frame: &Frame) -> Vec<u32> {
    let row = frame.picture.size().width as usize * 4;
    frame
        .picture
        .bytes()
        .chunks(frame.picture.stride())
        .flat_map(|bytes| bytes[..row].chunks_exact(4).map(rgb))
        .collect()
}

pub(in crate::source) fn pixel(frame: &Frame, x: usize, y: usize) -> u32 {
    rgb(&frame.picture.bytes()[y * frame.picture.stride() + x * 4..])
}

pub(in crate::source) fn next(frames: &Receiver<Frame>) -> Frame {
    frames.recv_timeout(DEADLINE).expect("a frame comes")
}

/// Awaits the frame for which `holds`.
pub(in crate::source) fn await_frame(frames: &Receiver<Frame>, holds: impl Fn(&Frame) -> bool) -> Frame {
    let end = Instant::now() + DEADLINE;
    loop {
        let frame = frames.recv_timeout(end.saturating_duration_since(Instant::now())).expect("the frame comes");
        if holds(&frame) {
            return frame;
        }
    }
}

/// Takes frames until none comes any more; the last one, if any came.
pub(in crate::source) fn settle(frames: &Receiver<Frame>) -> Option<Frame> {
    let mut last = None;
    while let Ok(frame) = frames.recv_timeout(STILL) {
        last = Some(frame);
    }
    last
}

pub(in crate::source) fn covered(damage: &Damage, rect: Rect) -> bool {
    damage.rects().iter().any(|known| known.bounding(rect) == *known)
}

/// Awaits that a source says of itself what `holds`.
pub(in crate::source) fn await_health(source: &Source, holds: impl Fn(&Health) -> bool) -> Health {
    let mut health = source.health();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waiting =
        async { tokio::time::timeout(DEADLINE, health.wait_for(holds)).await.map(|said| said.unwrap().clone()) };
    runtime.block_on(waiting).unwrap_or_else(|_| panic!("it says {:?}", source.health().borrow()))
}

/// Awaits that a source is lost; why.
pub(in crate::source) fn await_loss(source: &Source) -> String {
    match await_health(source, |health| *health != Health::Well) {
        Health::Lost { why } => why,
        Health::Well => unreachable!(),
    }
}
