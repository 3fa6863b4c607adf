//! An X client that draws what tests look for: the strip, patches of colour, typed and scrolled text, pointer moves.

use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use laterna::clock::Clock;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, ImageFormat, MOTION_NOTIFY_EVENT, Pixmap,
    PropMode, Rectangle, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::strip::Layout;

const WHITE: u32 = 0xff_ffff;
const BLACK: u32 = 0;
/// The glyph of an arrow in the core font `cursor`.
const ARROW: u16 = 68;

/// More than a frame of the browser, 16.7 ms.
const JITTER: Duration = Duration::from_millis(34);

/// A change that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The number that the strip shows with it.
    pub number: u32,
    /// When its requests were about to be sent: milliseconds since the Unix epoch.
    pub at: f64,
}

/// A patch of one colour.
#[derive(Debug, Clone, Copy)]
pub struct Patch {
    /// What it is called in messages.
    pub name: &'static str,
    /// Red, green, blue.
    pub rgb: [u8; 3],
    /// The centre's column.
    pub x: i16,
    /// The centre's row.
    pub y: i16,
}

impl Patch {
    /// Whether it is a grey (black and white included).
    pub fn is_grey(&self) -> bool {
        self.rgb[0] == self.rgb[1] && self.rgb[1] == self.rgb[2]
    }
}

/// The colours that are compared: greys and saturated primaries.
const COLOURS: [(&str, [u8; 3]); 12] = [
    ("black", [0, 0, 0]),
    ("grey 32", [32, 32, 32]),
    ("grey 96", [96, 96, 96]),
    ("grey 128", [128, 128, 128]),
    ("grey 192", [192, 192, 192]),
    ("white", [255, 255, 255]),
    ("red", [255, 0, 0]),
    ("green", [0, 255, 0]),
    ("blue", [0, 0, 255]),
    ("yellow", [255, 255, 0]),
    ("cyan", [0, 255, 255]),
    ("magenta", [255, 0, 255]),
];

/// A client with a window, over the whole screen unless it was told another place.
pub struct XClient {
    connection: RustConnection,
    root: Window,
    window: Window,
    strip: Pixmap,
    layout: Layout,
    width: u16,
    height: u16,
    black: u32,
    white: u32,
    line_height: u16,
    glyph_width: u16,
    number: u32,
    caret: (u16, u16),
    random: u64,
}

impl XClient {
    /// Connects and covers the screen with a white window.
    pub fn open(display: &str) -> Self {
        Self::open_window(display, None, "")
    }

    /// Connects and opens a white window of this place and size (all of the screen where there is none) and title.
    pub fn open_window(display: &str, place: Option<Rectangle>, title: &str) -> Self {
        let (connection, screen) = RustConnection::connect(Some(display)).unwrap();
        let screen = connection.setup().roots[screen].clone();
        let root = screen.root;
        let all = Rectangle { x: 0, y: 0, width: screen.width_in_pixels, height: screen.height_in_pixels };
        let Rectangle { x, y, width, height } = place.unwrap_or(all);
        let ids: Vec<u32> = (0..6).map(|_| connection.generate_id().unwrap()).collect();
        let (window, strip, black, white, font, cursor) = (ids[0], ids[1], ids[2], ids[3], ids[4], ids[5]);

        connection.open_font(font, b"cursor").unwrap();
        let ink = u16::MAX;
        connection.create_glyph_cursor(cursor, font, font, ARROW, ARROW + 1, 0, 0, 0, ink, ink, ink).unwrap();
        connection.close_font(font).unwrap();
        let look = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(WHITE)
            .cursor(cursor)
            .event_mask(EventMask::EXPOSURE);
        let input_output = WindowClass::INPUT_OUTPUT;
        connection
            .create_window(
                screen.root_depth,
                window,
                root,
                x,
                y,
                width,
                height,
                0,
                input_output,
                screen.root_visual,
                &look,
            )
            .unwrap();
        let (replace, name) = (PropMode::REPLACE, AtomEnum::WM_NAME);
        connection.change_property8(replace, window, name, AtomEnum::STRING, title.as_bytes()).unwrap();
        connection.map_window(window).unwrap();

        let text = connection.generate_id().unwrap();
        connection.open_font(text, b"fixed").unwrap();
        let metrics = connection.query_font(text).unwrap().reply().unwrap();
        let line_height = (metrics.font_ascent + metrics.font_descent).unsigned_abs();
        let glyph_width = metrics.max_bounds.character_width.unsigned_abs();
        let plain = CreateGCAux::new().font(text).graphics_exposures(0);
        connection.create_gc(black, window, &plain.foreground(BLACK).background(WHITE)).unwrap();
        connection.create_gc(white, window, &plain.foreground(WHITE).background(BLACK)).unwrap();

        let layout = Layout::of(u32::from(width));
        let (strip_width, strip_height) = layout.extent();
        let depth = screen.root_depth;
        connection.create_pixmap(depth, strip, window, strip_width as u16, strip_height as u16).unwrap();
        let caret = (0, Self::text_top(layout));
        let mut client = Self {
            connection,
            root,
            window,
            strip,
            layout,
            width,
            height,
            black,
            white,
            line_height,
            glyph_width,
            number: 0,
            caret,
            random: 1,
        };
        client.sync();
        client.stamp();
        client
    }

    /// The window's size.
    pub fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// Draws the strip with the next number.
    pub fn stamp(&mut self) -> Drawn {
        let at = unix_millis();
        self.draw_strip(at);
        self.flush(at)
    }

    /// Draws the patches in a grid below the strip and says where they are.
    pub fn draw_patches(&mut self) -> Vec<Patch> {
        let top = Self::text_top(self.layout);
        let (columns, rows) = (4, 3);
        let (cell_width, cell_height) = (self.width / columns, (self.height - top) / rows);
        let gc = self.connection.generate_id().unwrap();
        self.connection.create_gc(gc, self.window, &CreateGCAux::new()).unwrap();
        let mut patches = Vec::new();
        for (index, (name, rgb)) in COLOURS.into_iter().enumerate() {
            let (column, row) = (index as u16 % columns, index as u16 / columns);
            let (x, y) = ((column * cell_width) as i16, (top + row * cell_height) as i16);
            let pixel = u32::from_be_bytes([0, rgb[0], rgb[1], rgb[2]]);
            let colour = x11rb::protocol::xproto::ChangeGCAux::new().foreground(pixel);
            self.connection.change_gc(gc, &colour).unwrap();
            let area = Rectangle { x, y, width: cell_width, height: cell_height };
            self.connection.poly_fill_rectangle(self.window, gc, &[area]).unwrap();
            patches.push(Patch { name, rgb, x: x + cell_width as i16 / 2, y: y + cell_height as i16 / 2 });
        }
        self.connection.free_gc(gc).unwrap();
        self.stamp();
        patches
    }

    /// Fills the window below the strip with lines of text.
    pub fn fill_with_text(&mut self) {
        let mut row = Self::text_top(self.layout);
        while row + self.line_height <= self.height {
            self.draw_line(row);
            row += self.line_height;
        }
        self.caret = (0, Self::text_top(self.layout));
        self.stamp();
    }

    /// Types one letter; at the end of a line, the next line is wiped and goes on.
    pub fn type_letter(&mut self) -> Drawn {
        let at = unix_millis();
        if self.caret.0 + self.glyph_width > self.width {
            self.caret = (0, self.caret.1 + self.line_height);
        }
        if self.caret.1 + self.line_height > self.height {
            self.caret.1 = Self::text_top(self.layout);
        }
        let (x, y) = self.caret;
        if x == 0 {
            self.wipe(y);
        }
        let letter = self.words(1);
        self.connection.image_text8(self.window, self.black, x as i16, self.baseline(y), &letter).unwrap();
        self.caret.0 += self.glyph_width;
        self.draw_strip(at);
        self.flush(at)
    }

    /// Scrolls the text up by one line and draws a new one at the bottom.
    pub fn scroll(&mut self) -> Drawn {
        let at = unix_millis();
        let top = Self::text_top(self.layout);
        let rows = (self.height - top) / self.line_height;
        let kept = (rows - 1) * self.line_height;
        let (window, black, step) = (self.window, self.black, self.line_height);
        self.connection
            .copy_area(window, window, black, 0, (top + step) as i16, 0, top as i16, self.width, kept)
            .unwrap();
        self.draw_line(top + kept);
        self.draw_strip(at);
        self.flush(at)
    }

    /// Writes other text into so many lines, evenly spread and elsewhere each time.
    pub fn rewrite(&mut self, lines: u16) -> Drawn {
        let at = unix_millis();
        let top = Self::text_top(self.layout);
        let rows = (self.height - top) / self.line_height;
        let first = self.next_random() as u16 % rows;
        for line in 0..lines {
            self.draw_line(top + (first + line * rows / lines) % rows * self.line_height);
        }
        self.draw_strip(at);
        self.flush(at)
    }

    /// Moves the pointer as a mouse would.
    pub fn move_pointer(&self, x: i16, y: i16) {
        self.connection.xtest_fake_input(MOTION_NOTIFY_EVENT, 0, x11rb::CURRENT_TIME, self.root, x, y, 0).unwrap();
        self.sync();
    }

    /// Moves the pointer as a program would.
    pub fn warp_pointer(&self, x: i16, y: i16) {
        self.connection.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, x, y).unwrap();
        self.sync();
    }

    /// The screen as BGRX, rows of `width * 4` bytes.
    pub fn picture(&self) -> Vec<u8> {
        let (width, height) = (self.width, self.height);
        let image = self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, 0, 0, width, height, !0).unwrap();
        image.reply().unwrap().data
    }

    /// Awaits that the server has done all that was asked.
    pub fn sync(&self) {
        self.connection.sync().unwrap();
    }

    /// Draws at a steady rate in a thread of its own until told to stop; each change comes up to [`JITTER`] late, so that
    /// the changes keep no step with the browser's frames.
    pub fn draw_steadily(
        mut self,
        per_second: u32,
        mut draw: impl FnMut(&mut Self) -> Drawn + Send + 'static,
    ) -> Drawing {
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let (running, ended) = mpsc::sync_channel::<()>(0);
        let step = Duration::from_secs(1) / per_second;
        let thread = std::thread::spawn(move || {
            let _running = running;
            let mut drawn = Vec::new();
            let mut due = Instant::now();
            while let Err(RecvTimeoutError::Timeout) =
                stopped.recv_timeout(due.saturating_duration_since(Instant::now()))
            {
                drawn.push(draw(&mut self));
                due += step;
            }
            (self, drawn)
        });
        Drawing { stop, ended, thread }
    }

    fn text_top(layout: Layout) -> u16 {
        layout.extent().1 as u16 + 8
    }

    fn baseline(&self, row: u16) -> i16 {
        // The font's ascent is that of `fixed`, eleven thirteenths of its height.
        (row + self.line_height * 11 / 13) as i16
    }

    fn wipe(&self, row: u16) {
        let line = Rectangle { x: 0, y: row as i16, width: self.width, height: self.line_height };
        self.connection.poly_fill_rectangle(self.window, self.white, &[line]).unwrap();
    }

    /// A line as of source code: an indent and some words. A page of them fills about a sixth of the screen.
    fn draw_line(&mut self, row: u16) {
        self.wipe(row);
        let room = usize::from(self.width / self.glyph_width);
        let indent = self.next_random() as usize % 6 * 4;
        let length = (10 + self.next_random() as usize % 80).min(room - indent);
        let text = self.words(length);
        let x = (indent as u16 * self.glyph_width) as i16;
        self.connection.image_text8(self.window, self.black, x, self.baseline(row), &text).unwrap();
    }

    fn words(&mut self, length: usize) -> Vec<u8> {
        let letter = |random: u64| if random.is_multiple_of(6) { b' ' } else { b'a' + (random / 6 % 26) as u8 };
        (0..length).map(|_| letter(self.next_random())).collect()
    }

    fn next_random(&mut self) -> u64 {
        // Knuth's linear congruential generator: the same text in every run.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Draws into a pixmap first, so that the strip appears in one step and last of all.
    fn draw_strip(&mut self, at: f64) {
        self.number += 1;
        let (width, height) = self.layout.extent();
        let (width, height) = (width as u16, height as u16);
        let cell = self.layout.cell as u16;
        let white = self.layout.white_cells(self.number, strip_millis(at)).into_iter();
        let white: Vec<_> =
            white.map(|(x, y)| Rectangle { x: x as i16, y: y as i16, width: cell, height: cell }).collect();
        let (strip, window) = (self.strip, self.window);
        self.connection.poly_fill_rectangle(strip, self.black, &[Rectangle { x: 0, y: 0, width, height }]).unwrap();
        self.connection.poly_fill_rectangle(strip, self.white, &white).unwrap();
        self.connection.copy_area(strip, window, self.black, 0, 0, 0, 0, width, height).unwrap();
    }

    fn flush(&self, at: f64) -> Drawn {
        self.connection.flush().unwrap();
        Drawn { number: self.number, at }
    }
}

/// A client that draws by itself.
pub struct Drawing {
    stop: mpsc::SyncSender<()>,
    /// Hears nothing until the thread has ended.
    ended: mpsc::Receiver<()>,
    thread: JoinHandle<(XClient, Vec<Drawn>)>,
}

impl Drawing {
    /// Lets it draw for a time, then stops it.
    pub fn stop_after(self, time: Duration) -> (XClient, Vec<Drawn>) {
        let _ = self.ended.recv_timeout(time);
        self.stop()
    }

    /// Stops it; gives the client back and what it has drawn.
    pub fn stop(self) -> (XClient, Vec<Drawn>) {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

/// Wall time, carried by the monotonic clock as the browser's is.
static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);

/// Milliseconds since the Unix epoch.
pub fn unix_millis() -> f64 {
    CLOCK.wall(Instant::now()).as_secs_f64() * 1000.0
}

/// What the strip says of a time: its low 32 bits in milliseconds.
pub fn strip_millis(at: f64) -> u32 {
    at as u64 as u32
}
