//! The stream of PipeWire by which a granted screen comes (`pw_stream`).
//!
//! Owns the connection to PipeWire and its loop, which is turned by the capturing thread alone. It keeps the newest buffer until its pixels
//! are taken, and what was told since the last look. It decides nothing.

use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use pipewire as pw;
use pw::context::ContextRc;
use pw::core::CoreRc;
use pw::loop_::Timeout;
use pw::properties::properties;
use pw::spa::param::ParamType;
use pw::spa::utils::Direction;
use pw::stream::{StreamFlags, StreamListener, StreamRc, StreamState};
use tracing::{debug, trace};

use super::news::{self, News, PointerShape};
use super::params::{self, Format};
use super::pixels::Pixels;
use super::raw::{Entered, Taken};

/// A connected stream; disconnected when dropped.
pub(super) struct Stream {
    // In the order in which they have to be dropped.
    _stream_listener: StreamListener<()>,
    _core_listener: pw::core::Listener,
    stream: StreamRc,
    _core: CoreRc,
    entered: Entered,
    shared: Rc<RefCell<Shared>>,
    is_active: bool,
}

/// What the callbacks have noted.
#[derive(Debug, Default)]
struct Shared {
    format: Option<Format>,
    /// The newest buffer with pixels.
    held: Option<Taken>,
    news: News,
    shape: PointerShape,
    /// Whether a picture was taken away before its pixels were used.
    is_gone: bool,
    /// Why it is over.
    fault: Option<String>,
    is_streaming: bool,
}

impl Shared {
    fn fail(&mut self, why: impl Into<String>) {
        // The first reason is the cause of the others.
        self.fault.get_or_insert(why.into());
    }

    fn forget(&mut self) {
        if self.held.take().is_some() {
            self.news.picture = None;
            self.is_gone = true;
        }
    }
}

impl Stream {
    /// Connects to a node by the portal's connection to PipeWire; formats come by and by.
    ///
    /// # Errors
    /// What PipeWire refuses.
    pub(super) fn connect(remote: OwnedFd, node: u32, fps: u32, with_pointer: bool) -> Result<Self, pw::Error> {
        pw::init();
        let entered = Entered::new()?;
        let context = ContextRc::new(entered.main_loop(), None)?;
        let core = context.connect_fd_rc(remote, None)?;
        let shared = Rc::new(RefCell::new(Shared::default()));
        let core_listener = listen_to_core(&core, shared.clone());
        let stream = StreamRc::new(
            core.clone(),
            "laterna",
            properties! {
                *pw::keys::MEDIA_TYPE => "Video",
                *pw::keys::MEDIA_CATEGORY => "Capture",
                *pw::keys::MEDIA_ROLE => "Screen",
            },
        )?;
        let stream_listener = listen(&stream, with_pointer, &shared)?;
        let formats = params::formats(fps);
        let flags = StreamFlags::AUTOCONNECT | StreamFlags::MAP_BUFFERS | StreamFlags::DONT_RECONNECT;
        let mut pods: Vec<_> = formats.pod().into_iter().collect();
        stream.connect(Direction::Input, Some(node), flags, &mut pods)?;
        Ok(Self {
            _stream_listener: stream_listener,
            _core_listener: core_listener,
            stream,
            _core: core,
            entered,
            shared,
            is_active: true,
        })
    }

    /// Readable while there is something to [`Self::turn`] for.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.entered.main_loop().loop_().fd()
    }

    /// Handles what has come.
    ///
    /// # Errors
    /// Why the stream is over.
    pub(super) fn turn(&self) -> Result<(), String> {
        self.entered.main_loop().loop_().iterate(Timeout::None);
        match self.shared.borrow_mut().fault.clone() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// What was agreed on, once it was.
    pub(super) fn format(&self) -> Option<Format> {
        self.shared.borrow().format
    }

    /// Whether pictures could come.
    pub(super) fn is_streaming(&self) -> bool {
        self.shared.borrow().is_streaming
    }

    /// Lets pictures come, or has the other side rest.
    pub(super) fn set_active(&mut self, active: bool) {
        if active == self.is_active {
            return;
        }
        self.is_active = active;
        if let Err(error) = self.stream.set_active(active) {
            self.shared.borrow_mut().fail(format!("PipeWire can't start or pause the stream: {error}"));
        }
    }

    /// What was told since the last look, and whether a picture that was told of is gone.
    pub(super) fn take_news(&self) -> (News, bool) {
        let mut shared = self.shared.borrow_mut();
        (std::mem::take(&mut shared.news), std::mem::take(&mut shared.is_gone))
    }

    /// Has the pixels of the newest buffer used.
    pub(super) fn with_pixels<T>(&self, with: impl FnOnce(Option<Pixels<'_>>) -> T) -> T {
        let shared = self.shared.borrow();
        let pixels = shared.held.as_ref().zip(shared.format).and_then(|(held, format)| held.pixels(format));
        with(pixels)
    }

    /// Gives the newest buffer back: its pixels are not needed any more.
    pub(super) fn release(&self) {
        let held = self.shared.borrow_mut().held.take();
        if let Some(held) = held {
            held.give_back(&self.stream);
        }
    }
}

/// Hears of the end of PipeWire.
fn listen_to_core(core: &CoreRc, shared: Rc<RefCell<Shared>>) -> pw::core::Listener {
    let listener = core.add_listener_local();
    let error = move |id: u32, _sequence: i32, result: i32, message: &str| {
        debug!("PipeWire says of object {id}: {message} ({result})");
        if id == pw::core::PW_ID_CORE {
            shared.borrow_mut().fail(format!("PipeWire is gone ({message})"));
        }
    };
    listener.error(error).register()
}

/// Hears of what becomes of the stream, its format and its buffers.
fn listen(
    stream: &StreamRc,
    with_pointer: bool,
    shared: &Rc<RefCell<Shared>>,
) -> Result<StreamListener<()>, pw::Error> {
    let [states, formats, removals, pictures] = [(); 4].map(|()| shared.clone());
    stream
        .add_local_listener_with_user_data(())
        .state_changed(move |_, (), old, new| {
            debug!("the stream is {new:?} after {old:?}");
            let mut shared = states.borrow_mut();
            shared.is_streaming = new == StreamState::Streaming;
            match new {
                StreamState::Error(why) => shared.fail(format!("PipeWire has ended the stream ({why})")),
                StreamState::Unconnected => shared.fail("PipeWire has ended the stream"),
                StreamState::Connecting | StreamState::Paused | StreamState::Streaming => {}
            }
        })
        .param_changed(move |stream, (), id, pod| {
            let Some(pod) = pod.filter(|_| id == ParamType::Format.as_raw()) else { return };
            let format = match params::parse(pod) {
                Ok(format) => format,
                Err(found) => return formats.borrow_mut().fail(format!("PipeWire gives {found}")),
            };
            debug!("the stream has {format:?}");
            let mut shared = formats.borrow_mut();
            // All buffers are replaced.
            shared.forget();
            shared.format = Some(format);
            drop(shared);
            let mut made = params::metas(with_pointer);
            made.push(params::buffers());
            let mut pods: Vec<_> = made.iter().filter_map(params::Param::pod).collect();
            if let Err(error) = stream.update_params(&mut pods) {
                formats.borrow_mut().fail(format!("PipeWire takes no buffers: {error}"));
            }
        })
        .remove_buffer(move |_, (), buffer| {
            let mut shared = removals.borrow_mut();
            if shared.held.as_ref().is_some_and(|held| held.is(buffer)) {
                shared.forget();
            }
        })
        .process(move |stream, ()| {
            while let Some(buffer) = Taken::next(stream) {
                let spare = pictures.borrow_mut().handle(buffer);
                if let Some(spare) = spare {
                    spare.give_back(stream);
                }
            }
        })
        .register()
}

impl Shared {
    /// Notes a buffer; returns the one that is not needed (any more).
    fn handle(&mut self, buffer: Taken) -> Option<Taken> {
        let Some(format) = self.format else { return Some(buffer) };
        let metas = buffer.metas();
        self.news.handle_pointer(&metas, &mut self.shape);
        if news::is_corrupted(&metas) || buffer.pixels(format).is_none() {
            trace!("a buffer without pixels");
            drop(metas);
            return Some(buffer);
        }
        self.news.handle_picture(&metas, format.size);
        drop(metas);
        self.held.replace(buffer)
    }
}
