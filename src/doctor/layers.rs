//! Verdicts on the layers of what is to be shown, and on what is shown instead. Pure.

use std::io;
use std::path::PathBuf;

use super::{Finding, Level};
use crate::control::client::ClientError;
use crate::control::wire::Status;
use crate::source::{Kind, Layer, SourceSpec};

/// What a layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The first one.
    Base,
    /// What stands over it.
    Overlay,
    /// What is shown while the first one is lost.
    Fallback,
}

/// Whether a daemon seems to run, so that its camera is not to be had; one that this user may not ask, or that does not answer, runs too.
pub fn is_there(asked: &Result<Status, ClientError>) -> bool {
    let is_hidden = |(_, error): &(PathBuf, io::Error)| error.kind() == io::ErrorKind::PermissionDenied;
    match asked {
        Err(ClientError::Absent(tried)) => tried.iter().any(is_hidden),
        Ok(_) | Err(_) => true,
    }
}

/// The layers that nothing else looks at and that can be opened without asking or disturbing anybody.
///
/// Screens have checks of their own, and who looks at one by the portal is asked for it. A camera that a daemon shows can't be opened a second time.
pub fn to_open(source: &SourceSpec, fallback: Option<&SourceSpec>, has_daemon: bool) -> Vec<(Role, Layer)> {
    let overlays = source.overlays.iter().map(|overlay| (Role::Overlay, &overlay.layer));
    let fallback = fallback.into_iter().map(|fallback| (Role::Fallback, &fallback.base));
    let all = std::iter::once((Role::Base, &source.base)).chain(overlays).chain(fallback);
    let is_open = |kind: &Kind| match kind {
        Kind::File { .. } | Kind::Image(_) | Kind::Window(_) | Kind::Region(_) => true,
        Kind::Camera(_) => !has_daemon,
        Kind::Screen(_) | Kind::Auto | Kind::Pattern | Kind::Off => false,
    };
    all.filter(|(_, layer)| is_open(&layer.kind)).map(|(role, layer)| (role, layer.clone())).collect()
}

/// Judges a layer: what it is once it is open, or why it can't be opened.
pub fn layer(role: Role, has_fallback: bool, opened: &Result<String, String>) -> Finding {
    let (check, level) = match role {
        // Then laterna starts all the same, and shows that.
        Role::Base if has_fallback => ("source", Level::Warn),
        Role::Base => ("source", Level::Fail),
        Role::Overlay => ("overlay", Level::Fail),
        Role::Fallback => ("fallback", Level::Warn),
    };
    match opened {
        Ok(what) => Finding::ok(check, what.clone()),
        Err(error) => Finding::of_error(check, level, error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_nothing_else_looks_at_is_opened_and_nothing_that_asks_or_disturbs() {
        let roles = |source: &str, fallback: &str, has_daemon| {
            let [source, fallback] = [source, fallback].map(|spec| SourceSpec::parse(spec).unwrap());
            to_open(&source, Some(&fallback), has_daemon).into_iter().map(|(role, _)| role).collect::<Vec<_>>()
        };
        let (lesson, slides) = ("file:a.mp4 + camera + image:b.png", "window:Slides");
        assert_eq!(roles(lesson, slides, false), [Role::Base, Role::Overlay, Role::Overlay, Role::Fallback]);
        assert_eq!(roles(lesson, slides, true), [Role::Base, Role::Overlay, Role::Fallback], "its camera is in use");
        for source in ["screen", "auto", "pattern", "off"] {
            assert_eq!(roles(source, "pattern", false), [], "{source}");
        }
    }

    #[test]
    fn a_daemon_that_this_user_may_not_ask_is_there_all_the_same() {
        let absent = |kinds: &[io::ErrorKind]| {
            let tried = kinds.iter().map(|kind| (PathBuf::from("/run/laterna/control.sock"), (*kind).into()));
            is_there(&Err(ClientError::Absent(tried.collect())))
        };
        let (gone, denied) = (io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied);
        assert_eq!([absent(&[gone, gone]), absent(&[gone, denied]), absent(&[])], [false, true, false]);
        assert!(is_there(&Err(ClientError::Lost { path: PathBuf::new(), why: "no reply".to_owned() })));
    }

    #[test]
    fn what_ends_the_start_is_worse_than_what_is_shown_later() {
        let gone = Err("source image:a.png: no such file; write its name as `ls` does".to_owned());
        let levels = [(Role::Base, false), (Role::Base, true), (Role::Overlay, true), (Role::Fallback, true)]
            .map(|(role, has_fallback)| layer(role, has_fallback, &gone).level);
        assert_eq!(levels, [Level::Fail, Level::Warn, Level::Fail, Level::Warn]);
        assert!(layer(Role::Overlay, true, &gone).advice.unwrap().contains("ls"));
        assert_eq!(layer(Role::Base, false, &Ok("image a.png 64x48".to_owned())).level, Level::Ok);
    }
}
