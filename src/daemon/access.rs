//! Who may watch and who may operate, as the configuration, the state directory and operators want it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::clock::wall_now;
use crate::config::tables::{Kept, Secret, Tables};
use crate::config::{AuthConfig, RunConfig};
use crate::private_file;
use crate::signaling::access::{Access, Book, BookError, Code, Entry, Origin, PassId, Token, state_dir};

/// The most bytes of the file of added codes.
const MOST_BYTES: u64 = 1 << 20;
/// The most files that are kept aside as none that could be read.
const MOST_BROKEN: usize = 9;
/// The wall clock may be set at any time: so often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Codes and tokens of the config file, read and ready.
pub(super) struct Secrets {
    codes: Vec<(String, Code, Option<Duration>)>,
    tokens: Vec<(Token, Option<Duration>)>,
}

/// Why an operator's wish for codes is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodesError {
    /// Codes mean nothing here.
    #[error("everybody may watch (--auth none), so there are no codes")]
    Open,
    /// The book says why.
    #[error(transparent)]
    Book(#[from] BookError),
    /// It would be forgotten, or come back.
    #[error("{0}; nothing is changed")]
    NotKept(String),
}

/// All codes and tokens; the server holds the [`Access`] that is made of them.
pub(super) struct Codes {
    access: Arc<Mutex<Access>>,
    state: Mutex<State>,
}

struct State {
    book: Book,
    tokens: Vec<(Token, Option<Duration>)>,
    /// Whether everybody may watch.
    is_open: bool,
    /// Where the daemon's own code is kept; `None` where it lasts for this run.
    main: Option<PathBuf>,
    /// Where added codes are kept.
    added: Option<PathBuf>,
    /// What is in the state directory and holds no more.
    unkept: Unkept,
}

/// Which files are not as they are to be.
#[derive(Debug, Default)]
struct Unkept {
    main: bool,
    added: bool,
}

/// An added code in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Added {
    name: String,
    code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_s: Option<u64>,
}

impl Codes {
    /// Opens what `config` has, and what the state directory keeps.
    pub(super) fn open(config: &RunConfig) -> anyhow::Result<Arc<Self>> {
        let directory = state_dir();
        let mut state = State {
            book: Book::default(),
            tokens: Vec::new(),
            is_open: false,
            main: None,
            added: directory.as_ref().map(|directory| directory.join("codes.json")),
            unkept: Unkept::default(),
        };
        match &config.auth {
            AuthConfig::None => {
                warn!(
                    "--auth none: every browser that reaches this machine's ports can watch, and so can any web page opened in one; \
                     both are told the passwords of --ice-server too"
                );
                if !config.tables.codes.is_empty() {
                    warn!("--auth none: the codes of the config file mean nothing");
                }
                state.is_open = true;
            }
            AuthConfig::Code { file } => {
                let (code, main) = main_code(file.as_deref(), directory.as_deref())?;
                state.book.set_main(code);
                state.main = main;
                state.load_added();
            }
        }
        let secrets = read(&config.tables)?;
        let codes = Arc::new(Self { access: Arc::new(Mutex::new(Access::open())), state: Mutex::new(state) });
        codes.take_over(secrets, config)?;
        Ok(codes)
    }

    /// What the server asks.
    pub(super) fn access(&self) -> Arc<Mutex<Access>> {
        self.access.clone()
    }

    /// How many wrong codes came within a minute, of late.
    pub(super) fn wrong(&self, now: Instant) -> u32 {
        self.lock_access().wrong_codes(now)
    }

    /// The daemon's own code, where one is needed.
    pub(super) fn main(&self) -> Option<Code> {
        let state = self.state();
        state.book.entries().iter().find(|entry| entry.origin == Origin::Main).map(|entry| entry.code.clone())
    }

    /// Takes over what a configuration has, which goes before what operators added; gives the codes that are revoked by it, and whether any is
    /// another.
    ///
    /// # Errors
    /// Where one code has two names; then nothing is changed.
    pub(super) fn take_over(&self, secrets: Secrets, config: &RunConfig) -> Result<(Vec<PassId>, bool), BookError> {
        let mut state = self.state();
        let before = state.book.entries().to_vec();
        let gone = if state.is_open { Vec::new() } else { state.book.set_config(secrets.codes)? };
        let is_new = state.book.entries() != before;
        for entry in gone.iter().filter(|entry| entry.origin == Origin::Added) {
            let name = &entry.name;
            warn!(name, "an added code is revoked: the config file has its name or is the same code, and holds");
            state.unkept.added = true;
        }
        if let Err(error) = state.keep() {
            warn!(%error, "what was revoked is in the state directory still; it is tried again");
        }
        state.tokens = secrets.tokens;
        self.lock_access().set_wrong_per_minute(config.tables.limits.wrong_codes);
        self.refresh(&state);
        Ok((gone.into_iter().map(|entry| entry.pass).collect(), is_new))
    }

    /// All codes.
    pub(super) fn list(&self) -> Result<Vec<Entry>, CodesError> {
        let state = self.state();
        if state.is_open { Err(CodesError::Open) } else { Ok(state.book.entries().to_vec()) }
    }

    /// Adds a code, which is kept.
    pub(super) fn add(&self, name: &str, expires: Option<Duration>) -> Result<Entry, CodesError> {
        let mut state = self.state();
        if state.is_open {
            return Err(CodesError::Open);
        }
        let entry = state.book.add(name, Code::random(), expires)?.clone();
        if let Err(error) = state.save() {
            state.book.remove(entry.pass);
            return Err(CodesError::NotKept(format!("the code can't be kept: {error:#}")));
        }
        self.refresh(&state);
        info!(name = entry.name, "a code was added by the operator");
        Ok(entry)
    }

    /// Takes a code out at once; gives it, the one that replaces it where it is the daemon's own, and why that is not kept over a restart if so:
    /// then it is tried again.
    pub(super) fn revoke(&self, name: &str) -> Result<(Entry, Option<Entry>, Option<String>), CodesError> {
        let mut state = self.state();
        if state.is_open {
            return Err(CodesError::Open);
        }
        let entry = state.book.revocable(name)?.clone();
        let instead = if entry.origin == Origin::Main {
            let fresh = Code::random();
            state.book.set_main(fresh);
            state.unkept.main = state.main.is_some();
            state.book.entries().first().cloned()
        } else {
            state.book.remove(entry.pass);
            state.unkept.added = true;
            None
        };
        self.refresh(&state);
        info!(name, "a code was revoked by the operator");
        let unkept = state.keep().err();
        Ok((entry, instead, unkept.map(|error| format!("{error:#}"))))
    }

    /// Lets codes and tokens expire in time; never ends.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let wait = {
                let (state, wall) = (self.state(), wall_now());
                let tokens = state.tokens.iter().filter_map(|(_, expires)| *expires).filter(|expires| *expires > wall);
                let next = tokens.chain(state.book.next_expiry(wall)).min();
                next.map(|next| next - wall)
            };
            // Without any that expires, what is added later is judged when it is added; a minute later is soon enough to look again.
            tokio::time::sleep(wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).await;
            let mut state = self.state();
            if (state.unkept.main || state.unkept.added) && state.keep().is_ok() {
                info!("what was revoked is out of the state directory now");
            }
            if state.tokens.iter().any(|(_, expires)| expires.is_some())
                || state.book.entries().iter().any(|entry| entry.expires.is_some())
            {
                self.refresh(&state);
            }
        }
    }

    /// Tells the server what holds now.
    fn refresh(&self, state: &State) {
        let wall = wall_now();
        let mut access = self.lock_access();
        if !state.is_open {
            access.set_codes(state.book.valid(wall));
        }
        let valid = state.tokens.iter().filter(|(_, expires)| expires.is_none_or(|expires| expires > wall));
        access.set_tokens(valid.map(|(token, _)| token.clone()).collect());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads the codes that operators added.
    fn load_added(&mut self) {
        let Some(path) = self.added.clone() else { return };
        let read = private_file::read(&path, MOST_BYTES, "access codes").map_err(|error| error.to_string());
        let parsed = read.and_then(|bytes| match bytes {
            None => Ok(Vec::new()),
            Some(bytes) => {
                serde_json::from_slice::<Vec<Added>>(&bytes).map_err(|error| format!("{}: {error}", path.display()))
            }
        });
        let all = match parsed {
            Ok(all) => all,
            Err(why) => {
                let aside = free_beside(&path);
                // Where it can't be moved either, the next code that is added can't be kept and says so.
                let moved = std::fs::rename(&path, &aside).is_ok();
                warn!(why, moved, to = %aside.display(), "the added codes can't be read and hold no more; their file is put aside");
                return;
            }
        };
        for added in all {
            let Some(code) = Code::parse(&added.code) else {
                warn!(name = added.name, "an added code is none; it is left out");
                continue;
            };
            if let Err(error) = self.book.add(&added.name, code, added.expires_s.map(Duration::from_secs)) {
                warn!(%error, "an added code is left out");
            }
        }
    }

    /// Writes what is not as it is to be.
    fn keep(&mut self) -> anyhow::Result<()> {
        if self.unkept.main
            && let (Some(path), Some(main)) = (&self.main, self.book.entries().first())
        {
            private_file::replace(path, format!("{}\n", main.code.reveal()).as_bytes())?;
            self.unkept.main = false;
        }
        if self.unkept.added {
            self.save()?;
            self.unkept.added = false;
        }
        Ok(())
    }

    /// Keeps the codes that operators added.
    fn save(&self) -> anyhow::Result<()> {
        let Some(path) = &self.added else { bail!("there is no state directory (set HOME or STATE_DIRECTORY)") };
        let added = self.book.entries().iter().filter(|entry| entry.origin == Origin::Added).map(|entry| Added {
            name: entry.name.clone(),
            code: entry.code.reveal().to_owned(),
            expires_s: entry.expires.map(|expires| expires.as_secs()),
        });
        let text = serde_json::to_string_pretty(&added.collect::<Vec<_>>())?;
        private_file::replace(path, format!("{text}\n").as_bytes())?;
        Ok(())
    }
}

/// Where a file that can't be read is put aside, beside those that were before; the last place is taken again and again.
fn free_beside(path: &Path) -> PathBuf {
    let first = path.with_extension("json.broken");
    let others = (2..=MOST_BROKEN).map(|number| path.with_extension(format!("json.broken-{number}")));
    let mut places = std::iter::once(first).chain(others);
    let is_free = |place: &PathBuf| place.symlink_metadata().is_err();
    places.find(is_free).unwrap_or_else(|| path.with_extension(format!("json.broken-{MOST_BROKEN}")))
}

/// Reads all codes and tokens of the config file.
///
/// # Errors
/// Where one of them can't be read.
pub(super) fn read(tables: &Tables) -> anyhow::Result<Secrets> {
    let code = |secret: &Secret| -> anyhow::Result<_> {
        let code = Code::read(&place(secret)?).with_context(|| format!("codes.{}", secret.name))?;
        Ok((secret.name.clone(), code, secret.expires))
    };
    let token = |secret: &Secret| -> anyhow::Result<_> {
        let token = Token::read(&place(secret)?).with_context(|| format!("tokens.{}", secret.name))?;
        Ok((token, secret.expires))
    };
    let codes = tables.codes.iter().map(code).collect::<anyhow::Result<_>>()?;
    let tokens = tables.tokens.iter().map(token).collect::<anyhow::Result<_>>()?;
    Ok(Secrets { codes, tokens })
}

/// Reads those secrets that this user may look at; the service manager's credentials are its own.
///
/// # Errors
/// Where one of them is none, or not there.
pub(super) fn check(tables: &Tables) -> anyhow::Result<()> {
    let may_be_seen = |secret: &&Secret| match &secret.kept {
        Kept::File(path) => std::fs::File::open(path)
            .map_or_else(|error| error.kind() != std::io::ErrorKind::PermissionDenied, |_| true),
        Kept::Credential(_) => std::env::var_os("CREDENTIALS_DIRECTORY").is_some(),
    };
    let seen = |secrets: &[Secret]| secrets.iter().filter(may_be_seen).cloned().collect();
    read(&Tables { codes: seen(&tables.codes), tokens: seen(&tables.tokens), ..Tables::default() }).map(drop)
}

/// The file that a secret is in.
fn place(secret: &Secret) -> anyhow::Result<PathBuf> {
    match &secret.kept {
        Kept::File(path) => Ok(path.clone()),
        Kept::Credential(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            let directory = directory.with_context(|| {
                format!(
                    "credential {name}: the service manager gave none; write LoadCredential={name}:PATH in the unit"
                )
            })?;
            Ok(directory.join(name))
        }
    }
}

/// The daemon's own code, and where it is kept.
fn main_code(file: Option<&Path>, directory: Option<&Path>) -> anyhow::Result<(Code, Option<PathBuf>)> {
    if let Some(file) = file {
        let code = Code::load_or_create(file).with_context(|| format!("--auth-code-file {}", file.display()))?;
        return Ok((code, Some(file.to_owned())));
    }
    let path = directory.map(|directory| directory.join("code"));
    match path.as_deref().map(Code::load_or_create) {
        Some(Ok(code)) => Ok((code, path)),
        Some(Err(error)) => {
            warn!(%error, "the code can't be kept: it lasts for this run");
            Ok((Code::random(), None))
        }
        None => {
            warn!("there is no state directory (set HOME or STATE_DIRECTORY): the code lasts for this run");
            Ok((Code::random(), None))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_that_can_not_be_read_are_kept_beside_each_other_up_to_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("codes.json");
        let mut places = Vec::new();
        for number in 0..MOST_BROKEN + 2 {
            std::fs::write(&path, number.to_string()).unwrap();
            let place = free_beside(&path);
            std::fs::rename(&path, &place).unwrap();
            places.push(place.file_name().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(places[..3], ["codes.json.broken", "codes.json.broken-2", "codes.json.broken-3"]);
        assert_eq!(places[MOST_BROKEN - 1..], ["codes.json.broken-9"; 3]);
        assert_eq!(std::fs::read_to_string(directory.path().join("codes.json.broken")).unwrap(), "0");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), MOST_BROKEN);
    }
}
