//! Windows: which there are, what they are called, and which one is meant.
//!
//! Who manages windows keeps a list of them (EWMH, `_NET_CLIENT_LIST`); where nobody does, the tree is walked.
//! A window that goes away meanwhile is left out.

use std::collections::HashSet;

use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, MapState, WindowClass};
use x11rb::rust_connection::RustConnection;

use super::trouble::{Miss, granted};
use crate::config::one_line;
use crate::frame::Size;

/// A window that somebody may want to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its number at the server.
    pub(super) id: xproto::Window,
    /// What stands in its title bar.
    pub(super) title: String,
    /// Which program it is of (the class of `WM_CLASS`).
    pub(super) class: String,
    /// Its extent.
    pub(super) size: Size,
    /// Whether it is on the screen, covered or not.
    pub(super) shown: bool,
}

/// The longest title that is read, in units of four bytes.
const LONGEST: u32 = 256;
/// How deep the tree is walked: frames of window managers are one or two windows deep.
const DEPTH: u32 = 3;
/// How many windows are named in an error.
const NAMED: usize = 5;
/// How much of a title is named there.
const SHORT: usize = 50;

/// Asks for what windows are called.
struct Names<'a> {
    connection: &'a RustConnection,
    net_name: xproto::Atom,
}

impl<'a> Names<'a> {
    fn new(connection: &'a RustConnection) -> Result<Self, ReplyError> {
        let net_name = connection.intern_atom(false, b"_NET_WM_NAME")?.reply()?.atom;
        Ok(Self { connection, net_name })
    }

    /// All that is known of these windows, in as few round trips as it takes; those that are gone are left out.
    fn look(&self, ids: &[xproto::Window]) -> Result<Vec<(Candidate, xproto::GetWindowAttributesReply)>, ReplyError> {
        let property =
            |id, name: xproto::Atom| self.connection.get_property(false, id, name, AtomEnum::ANY, 0, LONGEST);
        let mut asked = Vec::new();
        for id in ids.iter().copied() {
            asked.push((
                id,
                self.connection.get_window_attributes(id)?,
                self.connection.get_geometry(id)?,
                property(id, self.net_name)?,
                property(id, AtomEnum::WM_NAME.into())?,
                property(id, AtomEnum::WM_CLASS.into())?,
            ));
        }
        let mut found = Vec::new();
        for (id, attributes, geometry, net_name, name, class) in asked {
            let (attributes, geometry) = (granted(attributes.reply())?, granted(geometry.reply())?);
            let (net_name, name) = (granted(net_name.reply())?, granted(name.reply())?);
            let class = granted(class.reply())?;
            let (Some(attributes), Some(geometry)) = (attributes, geometry) else { continue };
            let titles = [net_name, name].into_iter().flatten().map(|property| text_of(&property));
            let title = titles.into_iter().find(|title| !title.trim().is_empty()).unwrap_or_default();
            let class = class.map(|property| class_of(&property.value)).unwrap_or_default();
            let size = Size::new(geometry.width.into(), geometry.height.into());
            let shown = attributes.map_state == MapState::VIEWABLE;
            found.push((Candidate { id, title, class, size, shown }, attributes));
        }
        Ok(found)
    }
}

/// ICCCM: STRING is Latin-1, whose numbers are Unicode's; many programs put UTF-8 there all the same.
fn text_of(property: &xproto::GetPropertyReply) -> String {
    match std::str::from_utf8(&property.value) {
        Err(_) if property.type_ == u32::from(AtomEnum::STRING) => {
            property.value.iter().copied().map(char::from).collect()
        }
        _ => String::from_utf8_lossy(&property.value).into_owned(),
    }
}

/// The class of `WM_CLASS`, which is the second of two texts.
fn class_of(value: &[u8]) -> String {
    let part = value.split(|byte| *byte == 0).filter(|part| !part.is_empty()).take(2).last();
    part.map(|part| String::from_utf8_lossy(part).into_owned()).unwrap_or_default()
}

/// The windows that can be shown, those that the window manager knows first.
pub(super) fn all(connection: &RustConnection, root: xproto::Window) -> Result<Vec<Candidate>, ReplyError> {
    let names = Names::new(connection)?;
    let clients = clients(connection, root)?;
    let mut found: Vec<Candidate> = names.look(&clients)?.into_iter().map(|(candidate, _)| candidate).collect();
    let managed = !found.is_empty();
    let mut known: HashSet<xproto::Window> = clients.into_iter().collect();
    for client in &found {
        known.extend(ancestors(connection, root, client.id)?);
    }
    walk(&names, root, managed, &known, DEPTH, &mut found)?;
    found.retain(|candidate| candidate.id != root);
    Ok(found)
}

/// The numbers that the window manager keeps; none where there is no window manager.
fn clients(connection: &RustConnection, root: xproto::Window) -> Result<Vec<xproto::Window>, ReplyError> {
    let list = connection.intern_atom(false, b"_NET_CLIENT_LIST")?.reply()?.atom;
    let reply = connection.get_property(false, root, list, AtomEnum::WINDOW, 0, 4_096)?.reply()?;
    Ok(reply.value32().into_iter().flatten().collect())
}

/// Looks below `parent` for windows with titles; menus and the like are none where windows are managed.
fn walk(
    names: &Names<'_>,
    parent: xproto::Window,
    managed: bool,
    known: &HashSet<xproto::Window>,
    depth: u32,
    found: &mut Vec<Candidate>,
) -> Result<(), ReplyError> {
    let Some(tree) = granted(names.connection.query_tree(parent)?.reply())? else { return Ok(()) };
    // The topmost first.
    let children: Vec<_> = tree.children.into_iter().rev().filter(|id| !known.contains(id)).collect();
    for (child, attributes) in names.look(&children)? {
        let big = child.size.width >= Size::SMALLEST_SENT.width && child.size.height >= Size::SMALLEST_SENT.height;
        let menu = managed && attributes.override_redirect;
        if !child.shown || attributes.class != WindowClass::INPUT_OUTPUT || !big || menu {
            continue;
        }
        if !child.title.is_empty() {
            found.push(child);
        } else if depth > 1 {
            walk(names, child.id, managed, known, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The windows that a window is in, from its parent up to a child of the root; none where it is one itself.
pub(super) fn ancestors(
    connection: &RustConnection,
    root: xproto::Window,
    window: xproto::Window,
) -> Result<Vec<xproto::Window>, ConnectionError> {
    let (mut ancestors, mut at) = (Vec::new(), window);
    while let Some(tree) = granted(connection.query_tree(at)?.reply())? {
        at = tree.parent;
        if at == root || at == x11rb::NONE || ancestors.len() >= 32 {
            break;
        }
        ancestors.push(at);
    }
    Ok(ancestors)
}

/// What a window is called; `None` where it is gone.
pub(super) fn title(connection: &RustConnection, window: xproto::Window) -> Result<Option<String>, ReplyError> {
    let mut found = Names::new(connection)?.look(&[window])?;
    Ok(found.pop().map(|(candidate, _)| candidate.title))
}

/// The one window with `part` in its title, in capitals or not.
///
/// # Errors
/// [`Miss`] where none has it, or several have.
pub(super) fn find<'a>(windows: &'a [Candidate], part: &str) -> Result<&'a Candidate, Miss> {
    let wanted = part.to_lowercase();
    let matching: Vec<_> = windows.iter().filter(|window| window.title.to_lowercase().contains(&wanted)).collect();
    match matching[..] {
        [window] => Ok(window),
        [] => {
            let advice = match name_some(windows.iter(), |window| quoted(&window.title)) {
                Some(names) => format!("`laterna sources` lists what is there: {names}"),
                None => "there is no window with a title: open it first".to_owned(),
            };
            Err(Miss::absent(format!("no window has {} in its title", quoted(part)), advice))
        }
        [one, ..] => {
            let line = |window: &&Candidate| format!("{:#x} {}", window.id, quoted(&window.title));
            let names = name_some(matching.iter(), line).unwrap_or_default();
            let found = format!("{} windows have {} in their titles: {names}", matching.len(), quoted(part));
            Err(Miss::unfit(found, format!("write more of the title, or the number: window:{:#x}", one.id)))
        }
    }
}

/// A title for people, cut where it is long.
pub(super) fn quoted(title: &str) -> String {
    let line = one_line(title.trim());
    match line.char_indices().nth(SHORT) {
        Some((at, _)) => format!("'{}…'", &line[..at]),
        None => format!("'{line}'"),
    }
}

/// The first few of them; `None` where there are none.
fn name_some<T>(all: impl ExactSizeIterator<Item = T>, name: impl FnMut(T) -> String) -> Option<String> {
    let more = all.len().saturating_sub(NAMED);
    let names: Vec<_> = all.take(NAMED).map(name).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn window(id: u32, title: &str) -> Candidate {
        Candidate { id, title: title.to_owned(), class: String::new(), size: Size::new(9, 9), shown: true }
    }

    #[test]
    fn a_part_that_one_title_has_is_enough() {
        let windows = [window(1, "Lesson 3 – Slides"), window(2, "Terminal"), window(3, "ÜBUNG")];
        for (part, id) in [("slides", 1), ("LESSON", 1), ("term", 2), ("übung", 3)] {
            assert_eq!(find(&windows, part).unwrap().id, id, "{part}");
        }
    }

    #[test]
    fn misses_say_what_is_there() {
        let windows: Vec<_> = (1..=7).map(|id| window(id, &format!("Slides {id}"))).collect();
        let several = find(&windows, "slides").unwrap_err();
        assert!(several.found.starts_with("7 windows have 'slides' in their titles: 0x1 'Slides 1', 0x2 'Slides 2',"));
        assert!(several.found.ends_with("0x5 'Slides 5' and 2 more"), "{}", several.found);
        assert_eq!(several.advice, "write more of the title, or the number: window:0x1");
        let none = find(&windows[..2], "Chess").unwrap_err();
        assert_eq!(none.found, "no window has 'Chess' in its title");
        assert_eq!(none.advice, "`laterna sources` lists what is there: 'Slides 1', 'Slides 2'");
        assert!(none.absent && !several.absent);
        assert!(find(&[], "Chess").unwrap_err().advice.contains("no window"));
        assert_eq!(quoted(&"long ".repeat(30)).chars().count(), SHORT + 3);
    }

    #[test]
    fn the_class_is_the_second_text() {
        for (value, class) in [(&b"xterm\0XTerm\0"[..], "XTerm"), (b"xterm", "xterm"), (b"", ""), (b"\0A\0", "A")] {
            assert_eq!(class_of(value), class);
        }
    }
}
