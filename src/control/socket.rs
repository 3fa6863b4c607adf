//! Where the control socket is, and the daemon's claim to it.
//!
//! A lock file beside the socket says whether a daemon is alive: it is locked for as long as the daemon runs, so two that start at once can't both
//! take a dead one's place. The socket is made under another name and renamed, so nobody sees it with wider permissions than it is to have.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The place where there is no `$XDG_RUNTIME_DIR`.
const SYSTEM_PLACE: &str = "/run/laterna/control.sock";
/// How often another daemon's end may come between seeing its lock and taking it.
const MOST_TRIES: u32 = 8;

/// The places in their order: the one that is `given` and no other, else that of the user's session and that of the system.
pub fn places(given: Option<&Path>, runtime_dir: Option<OsString>) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given.to_owned()];
    }
    let session = runtime_dir.map(PathBuf::from).filter(|directory| directory.is_absolute());
    let session = session.map(|directory| directory.join("laterna/control.sock"));
    session.into_iter().chain([PathBuf::from(SYSTEM_PLACE)]).collect()
}

/// The number of a group.
fn find_group(name: &str) -> Option<u32> {
    nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// Checks that there is a group of this name.
///
/// # Errors
/// Where there is none.
pub fn check_group(name: &str) -> Result<(), SocketError> {
    find_group(name).map(drop).ok_or_else(|| SocketError::Group { name: name.to_owned() })
}

/// Why there is no control socket at a place.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers there.
    #[error("control socket {path}: another daemon has it; stop that one, or choose another place with --control PATH")]
    Live {
        /// The place.
        path: PathBuf,
    },
    /// Something that is no socket is there.
    #[error(
        "control socket {path}: something that is no socket is there; remove it, or choose another place with --control PATH"
    )]
    Foreign {
        /// The place.
        path: PathBuf,
    },
    /// There is no such group.
    #[error(
        "--control-group {name}: this machine has no such group; make it with `groupadd --system {name}`, or name another"
    )]
    Group {
        /// Its name.
        name: String,
    },
    /// A directory is there.
    #[error("control socket {path}: it is a directory; name the socket in it, as --control {path}/control.sock")]
    Directory {
        /// The place.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("control socket {path}: {what}: {error}; choose another place with --control PATH")]
    System {
        /// The place.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// The daemon's socket; dropping it removes it, where it is still the daemon's own.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of what was made.
    identity: (u64, u64),
    /// Dropped after the socket is gone: until then nobody else takes the place.
    _lock: Lock,
}

impl ControlSocket {
    /// Makes the socket, and its directory where that is not there; a dead one is replaced. It is its owner's, and that of the members of `group` where one is named.
    ///
    /// # Errors
    /// Where a daemon answers there, there is no such group, or the system refuses.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let refused = |what| move |error| SocketError::System { path: path.to_owned(), what, error };
        if path.is_dir() {
            return Err(SocketError::Directory { path: path.to_owned() });
        }
        let group = group
            .map(|name| find_group(name).ok_or_else(|| SocketError::Group { name: name.to_owned() }))
            .transpose()?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            // What protects the socket is its own mode: whoever may use it has to get there.
            let mode = if group.is_some() { 0o711 } else { 0o700 };
            match DirBuilder::new().mode(mode).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(refused("making its directory")(error));
                }
                _ => {}
            }
        }
        let lock = Lock::take(path)?;
        // Whoever holds the lock is alone here: what is left is a dead daemon's, or somebody else's.
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::Foreign { path: path.to_owned() }),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Live { path: path.to_owned() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused("looking at what is there")(error)),
        }
        let fresh = beside(path, ".new");
        if std::fs::symlink_metadata(&fresh).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(&fresh).map_err(refused("removing what a crash has left"))?;
        }
        let listener = UnixListener::bind(&fresh).map_err(refused("making it"))?;
        if let Some(group) = group
            && let Err(error) = std::os::unix::fs::chown(&fresh, None, Some(group))
        {
            let _ = std::fs::remove_file(&fresh);
            return Err(refused("giving it to the group of --control-group, which the daemon's user has to be in")(
                error,
            ));
        }
        let placed = || {
            let mode = if group.is_some() { 0o660 } else { 0o600 };
            std::fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
            let made = std::fs::symlink_metadata(&fresh)?;
            std::fs::rename(&fresh, path)?;
            listener.set_nonblocking(true)?;
            Ok((made.dev(), made.ino()))
        };
        match placed() {
            Ok(identity) => Ok(Self { listener, path: path.to_owned(), identity, _lock: lock }),
            Err(error) => {
                // It is in nobody's way but the next daemon's, which removes it too.
                let _ = std::fs::remove_file(&fresh);
                Err(refused("putting it in its place")(error))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket, which does not block.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let own = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket stays behind");
        }
    }
}

/// The lock of a place, held until it is dropped; then its file goes too.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, SocketError> {
        let refused = |error| SocketError::System { path: socket.to_owned(), what: "locking its place", error };
        let path = beside(socket, ".lock");
        for _ in 0..MOST_TRIES {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&path).map_err(refused)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SocketError::Live { path: socket.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(refused(error)),
            }
            // Whoever had it before may have removed the file between our opening and locking it.
            let held = file.metadata().map_err(refused)?;
            let there = std::fs::symlink_metadata(&path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
        Err(refused(io::ErrorKind::WouldBlock.into()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the lock of the control socket stays behind");
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn places_are_in_the_order_of_the_contract() {
        let paths = |given: Option<&str>, runtime: Option<&str>| {
            let places = places(given.map(Path::new), runtime.map(OsString::from));
            places.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths(Some("x.sock"), Some("/run/user/1")), ["x.sock"]);
        assert_eq!(paths(None, Some("/run/user/1")), ["/run/user/1/laterna/control.sock", SYSTEM_PLACE]);
        for none in [None, Some(""), Some("relative")] {
            assert_eq!(paths(None, none), [SYSTEM_PLACE]);
        }
    }

    #[test]
    fn it_is_its_owners_alone_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("laterna/control.sock");
        let socket = ControlSocket::bind(&path, None).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(names(path.parent().unwrap()).is_empty());
        assert!(matches!(
            ControlSocket::bind(&directory.path().join("a/b/control.sock"), None),
            Err(SocketError::System { .. })
        ));
    }

    #[test]
    fn a_live_one_is_an_error_and_a_dead_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let live = ControlSocket::bind(&path, None).unwrap();
        assert!(matches!(ControlSocket::bind(&path, None), Err(SocketError::Live { .. })));
        assert!(UnixStream::connect(&path).is_ok(), "the live one is unharmed");
        drop(live);
        // As a crash leaves it: a socket that nobody listens at, a lock that nobody holds, and one that was not yet in its place.
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(beside(&path, ".new")).unwrap());
        File::create(beside(&path, ".lock")).unwrap();
        let next = ControlSocket::bind(&path, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(next);
        assert!(names(directory.path()).is_empty());
        // One of somebody who knows no lock.
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(ControlSocket::bind(&path, None), Err(SocketError::Live { .. })));
        drop(foreign);
        assert!(path.exists());
    }

    #[test]
    fn of_many_that_start_at_once_one_gets_the_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let all = std::sync::Barrier::new(8);
        let won: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                all.wait();
                ControlSocket::bind(&path, None)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let live = |result: &Result<ControlSocket, _>| matches!(result, Err(SocketError::Live { .. }));
        assert_eq!((won.iter().filter(|r| r.is_ok()).count(), won.iter().filter(|r| live(r)).count()), (1, 7));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        // A file, a link to one, and a link in the place of the lock.
        std::fs::copy(&precious, &path).unwrap();
        assert!(matches!(ControlSocket::bind(&path, None), Err(SocketError::Foreign { .. })));
        std::fs::remove_file(&path).unwrap();
        symlink(&precious, &path).unwrap();
        assert!(matches!(ControlSocket::bind(&path, None), Err(SocketError::Foreign { .. })));
        std::fs::remove_file(&path).unwrap();
        let lock = beside(&path, ".lock");
        let _ = std::fs::remove_file(&lock);
        symlink(&precious, &lock).unwrap();
        assert!(matches!(ControlSocket::bind(&path, None), Err(SocketError::System { .. })));
        std::fs::remove_file(&lock).unwrap();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
        let error = ControlSocket::bind(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains("it is a directory; name the socket in it"), "{error}");
        assert!(!beside(directory.path(), ".lock").exists());
        // Another one's socket that has taken the place meanwhile.
        let socket = ControlSocket::bind(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(UnixStream::connect(&path).is_ok());
        drop(other);
    }

    #[test]
    fn a_path_too_long_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = ControlSocket::bind(&directory.path().join("x".repeat(120)), None).unwrap_err().to_string();
        assert!(error.contains("xxx") && error.contains("--control PATH") && !error.contains('\n'), "{error}");
        assert!(names(directory.path()).is_empty(), "{:?}", names(directory.path()));
    }
}
