//! Pictures that stand still: given once whenever somebody begins to watch.

use std::time::Instant;

use tracing::error;

use super::{FrameSink, Opened, Source, SourceError, SourceOptions, card};
use crate::alive::Watch;
use crate::frame::{Damage, Frame, Picture};
use crate::orders::{Mode, Orders};

/// Opens a source of one picture; its thread is called `name`.
///
/// # Errors
/// [`SourceError::System`] where no thread can be had.
pub(super) fn open(
    spec: &str,
    name: &str,
    picture: Picture,
    description: String,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    let opened = Opened::silent(picture.size(), description);
    Source::spawn(spec, name, watch, move || Ok((opened, picture)), move |picture, orders| run(&picture, orders, &sink))
}

/// Opens the card that says that nothing is shown.
///
/// # Errors
/// As [`open`].
pub(super) fn open_pause(options: &SourceOptions, sink: FrameSink, watch: &Watch) -> Result<Source, SourceError> {
    let picture = card::pause(options.size.unwrap_or(card::SIZE));
    open("off", "capture-off", picture, "off (the pause card)".to_owned(), sink, watch)
}

/// Gives the picture whenever it is wanted, until the source is stopped.
fn run(picture: &Picture, orders: &Orders, sink: &FrameSink) {
    let mut shown = false;
    loop {
        let wanted = orders.take();
        match wanted.mode {
            Mode::Stopped => return,
            Mode::Idle => shown = false,
            Mode::Active if !shown || wanted.refresh => {
                shown = true;
                sink(Frame::new(picture.clone(), Damage::whole(picture.size()), Instant::now()));
            }
            Mode::Active => {}
        }
        if let Err(error) = orders.wait(None, None) {
            error!("a still picture can't wait: {error}");
            return;
        }
    }
}
