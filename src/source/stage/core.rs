//! What a stage shows: the source, its fallback, or a card; and what stands over it. Pure.
//!
//! Frames of the layers go in, frames of the whole come out. The first layer sets the pace: its frames go on at once. What stands over it
//! adds frames of its own, at most as many a second as the broadcast has, in which nothing but its own part has changed.

use std::time::Instant;

use crate::frame::overlay::{Layer, Placement};
use crate::frame::pacing::CapturePacer;
use crate::frame::{Damage, Frame, Picture, Pointer, Size};
use crate::source::card;

/// Where a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The first layer.
    Base,
    /// What is shown while the first layer is lost.
    Fallback,
    /// What stands over it, by its number.
    Overlay(usize),
}

/// What is shown below the overlays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Base,
    Fallback,
    Card,
}

/// Whether the first layer gives pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    Well,
    Lost { why: String },
}

/// What is shown in the place of a source that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    /// A card that says why.
    Card,
    /// Another source, which is to be opened.
    Fallback,
}

/// One overlay.
#[derive(Debug)]
struct Slot {
    place: Placement,
    picture: Option<Picture>,
    serial: u64,
}

/// The state of a stage.
#[derive(Debug)]
pub(super) struct Core {
    /// What the first layer is called, for the card.
    name: String,
    card: Size,
    instead: Instead,
    active: bool,
    base: Base,
    shown: Shown,
    /// The picture below the overlays, kept where there are any.
    behind: Option<(Picture, Option<Pointer>)>,
    overlays: Vec<Slot>,
    pacer: CapturePacer,
    /// Whether there is no fallback to be had.
    no_fallback: bool,
    card_owed: bool,
}

impl Core {
    /// A stage on which nothing is shown yet; a card is as large as `card`.
    pub(super) fn new(
        name: String,
        card: Size,
        instead: Instead,
        places: impl Iterator<Item = Placement>,
        fps: u32,
    ) -> Self {
        let slot = |place| Slot { place, picture: None, serial: 0 };
        Self {
            name,
            card,
            instead,
            active: false,
            base: Base::Well,
            shown: Shown::Nothing,
            behind: None,
            overlays: places.map(slot).collect(),
            pacer: CapturePacer::new(fps),
            no_fallback: false,
            card_owed: false,
        }
    }

    /// Takes a layer's frame; what is to be shown at once because of it.
    pub(super) fn handle_frame(&mut self, origin: Origin, mut frame: Frame, now: Instant) -> Option<Frame> {
        let shown = match origin {
            Origin::Overlay(at) => {
                let slot = self.overlays.get_mut(at)?;
                slot.picture = Some(frame.picture);
                slot.serial += 1;
                self.pacer.handle_change(now);
                return self.poll_frame(now);
            }
            Origin::Base => {
                // A frame is a better sign of life than any word.
                self.base = Base::Well;
                Shown::Base
            }
            Origin::Fallback if self.base == Base::Well => return None,
            Origin::Fallback => {
                self.no_fallback = false;
                Shown::Fallback
            }
        };
        if self.shown != shown {
            self.shown = shown;
            frame.damage = Damage::whole(frame.picture.size());
        }
        self.card_owed = false;
        // With anything over it, it is not passed on, and else it looks as before.
        if !self.overlays.is_empty() && self.behind.is_some() && frame.is_news_as_coded_alone() {
            return None;
        }
        Some(self.over(frame))
    }

    /// Notes that the first layer gives no pictures; says whether the fallback is to be opened.
    pub(super) fn handle_lost(&mut self, why: &str) -> bool {
        self.base = Base::Lost { why: why.to_owned() };
        self.no_fallback = false;
        self.card_owed = self.wants_card();
        self.instead == Instead::Fallback
    }

    /// Notes that the first layer is there again; what is shown stands until its first picture.
    pub(super) fn handle_back(&mut self) {
        self.base = Base::Well;
        self.card_owed = false;
    }

    /// Notes that there is no fallback either, or that it is lost too: then the card is shown, until it has a picture.
    pub(super) fn handle_no_fallback(&mut self) {
        self.no_fallback = true;
        self.card_owed = self.wants_card();
    }

    /// Notes that what stands over the first layer has no picture at present.
    pub(super) fn handle_overlay_lost(&mut self, at: usize, now: Instant) {
        if let Some(slot) = self.overlays.get_mut(at) {
            slot.picture = None;
            self.pacer.handle_change(now);
        }
    }

    /// Lets frames flow, or none: whoever is shown then begins anew.
    pub(super) fn set_active(&mut self, active: bool) {
        if self.active == active {
            return;
        }
        self.active = active;
        self.behind = None;
        self.card_owed = active && self.wants_card();
        // Not one picture of before is for who watches now, but for those that stand still.
        for slot in &mut self.overlays {
            slot.picture = None;
        }
    }

    /// Somebody needs a whole picture: the layers give theirs themselves, a card is given again.
    pub(super) fn handle_refresh(&mut self) {
        self.card_owed |= self.wants_card();
    }

    /// Why the first layer gives no pictures, where it doesn't.
    pub(super) fn lost(&self) -> Option<&str> {
        match &self.base {
            Base::Well => None,
            Base::Lost { why } => Some(why),
        }
    }

    /// Whether the fallback is of use.
    pub(super) fn wants_fallback(&self) -> bool {
        self.instead == Instead::Fallback && (self.base != Base::Well || self.shown == Shown::Fallback)
    }

    /// Whether the card is all there is to show.
    fn wants_card(&self) -> bool {
        self.base != Base::Well && (self.instead == Instead::Card || self.no_fallback)
    }

    /// What is to be shown by now without any layer's frame.
    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        if !self.active {
            return None;
        }
        if let (true, Base::Lost { why }) = (std::mem::take(&mut self.card_owed), &self.base) {
            self.shown = Shown::Card;
            let picture = card::notice(self.card, &self.name, why);
            let damage = Damage::whole(picture.size());
            return Some(self.over(Frame::new(picture, damage, now)));
        }
        self.pacer.poll_timeout().filter(|due| *due <= now)?;
        let (picture, pointer) = self.behind.clone()?;
        Some(self.over(Frame { pointer, ..Frame::new(picture, Damage::none(), now) }))
    }

    /// When [`Self::poll_frame`] has something; `None` where only a layer can give it.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match (self.active, self.card_owed && self.base != Base::Well) {
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => self.pacer.poll_timeout().filter(|_| self.behind.is_some()),
        }
    }

    /// A frame with all that stands over it.
    fn over(&mut self, frame: Frame) -> Frame {
        if self.overlays.is_empty() {
            return frame;
        }
        self.pacer.handle_capture(frame.captured);
        self.behind = Some((frame.picture.clone(), frame.pointer.clone()));
        let layer = |slot: &Slot| {
            let picture = slot.picture.clone()?;
            Some(Layer { picture, place: slot.place, serial: slot.serial })
        };
        let overlays = self.overlays.iter().filter_map(layer).collect();
        // With anything over it, it is not the picture that was recorded.
        Frame { overlays, coded: None, ..frame }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::frame::coded::{Coded, Coding, Serial};

    const SIZE: Size = Size::new(64, 36);

    fn picture(shade: u8) -> Picture {
        Picture::new(Arc::new(vec![shade; 64 * 36 * 4]), SIZE, 64 * 4).unwrap()
    }

    fn frame(shade: u8, captured: Instant) -> Frame {
        Frame::new(picture(shade), Damage::none(), captured)
    }

    fn stage(instead: Instead, overlays: usize) -> Core {
        let mut core = Core::new("screen".to_owned(), SIZE, instead, (0..overlays).map(|_| Placement::default()), 20);
        core.set_active(true);
        core
    }

    fn shade(frame: &Frame) -> u8 {
        frame.picture.bytes()[0]
    }

    #[test]
    fn frames_go_on_as_they_are_and_the_first_is_whole() {
        let (mut core, now) = (stage(Instead::Card, 0), Instant::now());
        let first = core.handle_frame(Origin::Base, frame(7, now), now).unwrap();
        assert_eq!((shade(&first), first.damage), (7, Damage::whole(SIZE)));
        let next = core.handle_frame(Origin::Base, frame(8, now), now).unwrap();
        assert!(next.damage.is_empty() && next.captured == now);
        assert_eq!((core.poll_frame(now).is_none(), core.poll_timeout(now)), (true, None));
    }

    #[test]
    fn a_lost_source_shows_its_card_until_it_is_back() {
        let (mut core, now) = (stage(Instead::Card, 0), Instant::now());
        core.handle_frame(Origin::Base, frame(7, now), now).unwrap();
        assert!(!core.handle_lost("the server is gone"));
        assert_eq!(core.lost(), Some("the server is gone"));
        assert_eq!(core.poll_timeout(now), Some(now));
        let card = core.poll_frame(now).unwrap();
        assert_eq!((card.picture.size(), card.damage), (SIZE, Damage::whole(SIZE)));
        assert!(core.poll_frame(now).is_none(), "a card stands still");
        core.handle_refresh();
        assert!(core.poll_frame(now).is_some(), "whoever comes sees it too");
        core.set_active(false);
        core.set_active(true);
        assert!(core.poll_frame(now).is_some());
        core.handle_back();
        assert!(core.poll_frame(now).is_none(), "it stands until the first picture");
        let back = core.handle_frame(Origin::Base, frame(9, now), now).unwrap();
        assert_eq!((shade(&back), back.damage), (9, Damage::whole(SIZE)));
    }

    #[test]
    fn a_fallback_is_shown_while_the_source_is_lost_and_no_longer() {
        let (mut core, now) = (stage(Instead::Fallback, 0), Instant::now());
        core.handle_frame(Origin::Base, frame(7, now), now).unwrap();
        assert!(core.handle_frame(Origin::Fallback, frame(1, now), now).is_none());
        assert!(!core.wants_fallback());
        assert!(core.handle_lost("gone"));
        assert!(
            core.wants_fallback() && core.poll_frame(now).is_none(),
            "the last picture stands until the other's first"
        );
        let other = core.handle_frame(Origin::Fallback, frame(1, now), now).unwrap();
        assert_eq!((shade(&other), other.damage), (1, Damage::whole(SIZE)));
        core.handle_no_fallback();
        assert!(core.poll_frame(now).is_some(), "where that is lost too, the card is shown");
        assert!(core.handle_frame(Origin::Fallback, frame(2, now), now).unwrap().damage == Damage::whole(SIZE));
        core.handle_back();
        assert!(core.wants_fallback(), "it goes once the source has a picture");
        assert_eq!(core.handle_frame(Origin::Base, frame(9, now), now).unwrap().damage, Damage::whole(SIZE));
        assert!(!core.wants_fallback());
    }

    #[test]
    fn overlays_add_no_more_frames_than_the_broadcast_has_and_change_nothing_else() {
        let (mut core, start) = (stage(Instead::Card, 1), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(core.handle_frame(Origin::Overlay(0), frame(1, start), start).is_none(), "over nothing");
        let first = core.handle_frame(Origin::Base, frame(7, at(1)), at(1)).unwrap();
        assert_eq!(first.overlays.len(), 1);
        let (mut shown, mut last) = (0, first.overlays[0].serial);
        // 100 frames a second over a screen that stands still.
        for millis in (1000..3000).step_by(10) {
            let due = core.poll_timeout(at(millis)).filter(|due| *due <= at(millis));
            let frame = due
                .and_then(|due| core.poll_frame(due))
                .or_else(|| core.handle_frame(Origin::Overlay(0), frame(2, at(millis)), at(millis)));
            if let Some(frame) = frame {
                assert!(frame.damage.is_empty() && shade(&frame) == 7 && frame.overlays[0].serial > last);
                last = frame.overlays[0].serial;
                shown += 1;
            }
        }
        assert!((38..=42).contains(&shown), "{shown} frames in two seconds at 20 a second");
        core.handle_overlay_lost(0, at(4000));
        assert!(core.poll_frame(at(4000)).unwrap().overlays.is_empty());
    }

    #[test]
    fn recorded_pictures_that_look_as_before_are_news_only_where_nothing_is_over_them() {
        let now = Instant::now();
        let coded = Coded { coding: Coding::Vp8, data: Bytes::new(), keyframe: false, serial: Serial::first() };
        let recorded = |shade| Frame { coded: Some(Arc::new(coded.clone())), ..frame(shade, now) };
        for overlays in 0..2 {
            let mut core = stage(Instead::Card, overlays);
            let first = core.handle_frame(Origin::Base, recorded(7), now).unwrap();
            assert_eq!((first.damage, first.coded.is_some()), (Damage::whole(SIZE), overlays == 0));
            assert_eq!(core.handle_frame(Origin::Base, recorded(7), now).is_some(), overlays == 0);
            let damaged = Frame { damage: Damage::whole(SIZE), ..recorded(8) };
            assert_eq!(shade(&core.handle_frame(Origin::Base, damaged, now).unwrap()), 8);
        }
    }

    #[test]
    fn nothing_comes_while_nobody_watches() {
        let (mut core, now) = (stage(Instead::Card, 1), Instant::now());
        core.handle_frame(Origin::Base, frame(7, now), now).unwrap();
        core.set_active(false);
        core.handle_lost("gone");
        core.handle_frame(Origin::Overlay(0), frame(2, now), now);
        assert_eq!((core.poll_frame(now).is_none(), core.poll_timeout(now)), (true, None));
        core.set_active(true);
        assert!(core.poll_frame(now).is_some(), "who comes meanwhile sees the card");
    }
}
