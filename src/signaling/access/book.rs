//! The book of codes: which there are, by name, since when they may not be used any more, and whose they are to change.
//!
//! A pure core: time is wall time since the Unix epoch, as an argument. Where codes are kept is for the daemon.

use std::time::Duration;

use super::{Code, PassId};

/// The name of the code that a daemon has of itself.
const MAIN: &str = "main";
/// The most bytes of a name.
const NAME_BYTES: usize = 64;
/// The most codes.
const MOST: usize = 1000;

/// Where a code comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is the daemon's own; revoked, it is replaced.
    Main,
    /// It is in the config file, by which it is added and revoked.
    Config,
    /// An operator added it.
    Added,
}

/// A code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Tells it from all others.
    pub pass: PassId,
    /// Its name.
    pub name: String,
    /// The code.
    pub code: Code,
    /// Since when it may not be used any more.
    pub expires: Option<Duration>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Entry {
    /// Whether it may be used no more at `wall`.
    pub fn is_expired(&self, wall: Duration) -> bool {
        self.expires.is_some_and(|expires| expires <= wall)
    }
}

/// Why the book is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The name is none.
    #[error("'{0}' can't be the name of a code: write 1 to {NAME_BYTES} of a-z A-Z 0-9 . _ -")]
    Name(String),
    /// There is one of this name.
    #[error("there is a code called {0}; revoke it first (laterna codes revoke {0}), or choose another name")]
    Taken(String),
    /// Two names for one code: revoked by one, it would be let in by the other.
    #[error("codes.{0}: it is the same code as {1}; give each one of its own")]
    Same(String, String),
    /// There is none of this name.
    #[error("there is no code called {0}; `laterna codes list` has all")]
    Unknown(String),
    /// It is in the config file.
    #[error("the code {0} is in the config file: take it out there, then reload")]
    Config(String),
    /// There are too many.
    #[error("there are {MOST} codes; revoke some first")]
    Full,
}

/// All codes.
#[derive(Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    made: u64,
}

impl Book {
    /// Puts the daemon's own code into the book, in the place of the one that it had; gives that.
    pub fn set_main(&mut self, code: Code) -> Option<PassId> {
        let before = self.take(|entry| entry.origin == Origin::Main);
        let entry = self.entry(MAIN.to_owned(), code, None, Origin::Main);
        self.entries.insert(0, entry);
        before.first().map(|entry| entry.pass)
    }

    /// Puts what the config file has into the book; gives those that are in it no more: the file's that are gone or have another code now, and
    /// added ones whose name or code the file has.
    ///
    /// # Errors
    /// Where two are the same code, or one has the name of the daemon's own; then nothing is changed.
    pub fn set_config(&mut self, wanted: Vec<(String, Code, Option<Duration>)>) -> Result<Vec<Entry>, BookError> {
        for (at, (name, code, _)) in wanted.iter().enumerate() {
            check_name(name)?;
            if name == MAIN {
                return Err(BookError::Taken(name.clone()));
            }
            let own = self.entries.iter().filter(|entry| entry.origin == Origin::Main);
            let own = own.map(|entry| (&entry.name, &entry.code));
            let mut others = own.chain(wanted[..at].iter().map(|(name, code, _)| (name, code)));
            if let Some((other, _)) = others.find(|(_, other)| *other == code) {
                return Err(BookError::Same(name.clone(), other.clone()));
            }
        }
        let is_wanted = |entry: &Entry| wanted.iter().any(|(name, code, _)| *name == entry.name || *code == entry.code);
        let displaced = self.take(|entry| entry.origin == Origin::Added && is_wanted(entry));
        let mut before = self.take(|entry| entry.origin == Origin::Config);
        for (name, code, expires) in wanted {
            let known = before.iter().position(|entry| entry.name == name && entry.code == code);
            let entry = match known.map(|at| before.remove(at)) {
                Some(entry) => Entry { expires, ..entry },
                None => self.entry(name, code, expires, Origin::Config),
            };
            self.entries.push(entry);
        }
        before.extend(displaced);
        Ok(before)
    }

    /// Adds an operator's code.
    ///
    /// # Errors
    /// Where the name is taken, or none.
    pub fn add(&mut self, name: &str, code: Code, expires: Option<Duration>) -> Result<&Entry, BookError> {
        check_name(name)?;
        if name == MAIN || self.entries.iter().any(|entry| entry.name == name) {
            return Err(BookError::Taken(name.to_owned()));
        }
        if self.entries.len() >= MOST {
            return Err(BookError::Full);
        }
        let entry = self.entry(name.to_owned(), code, expires, Origin::Added);
        self.entries.push(entry);
        Ok(&self.entries[self.entries.len() - 1])
    }

    /// Whether a code may be revoked by an operator, and what it is.
    ///
    /// # Errors
    /// Where there is none, or the config file has it.
    pub fn revocable(&self, name: &str) -> Result<&Entry, BookError> {
        match self.entries.iter().find(|entry| entry.name == name) {
            None => Err(BookError::Unknown(name.chars().filter(|c| !c.is_control()).take(NAME_BYTES).collect())),
            Some(entry) if entry.origin == Origin::Config => Err(BookError::Config(entry.name.clone())),
            Some(entry) => Ok(entry),
        }
    }

    /// Takes a code out.
    pub fn remove(&mut self, pass: PassId) -> Option<Entry> {
        self.take(|entry| entry.pass == pass).pop()
    }

    /// All codes, the daemon's own first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Those that may be used at `wall`.
    pub fn valid(&self, wall: Duration) -> Vec<(PassId, Code)> {
        let valid = self.entries.iter().filter(|entry| !entry.is_expired(wall));
        valid.map(|entry| (entry.pass, entry.code.clone())).collect()
    }

    /// When the next one expires after `wall`.
    pub fn next_expiry(&self, wall: Duration) -> Option<Duration> {
        self.entries.iter().filter_map(|entry| entry.expires).filter(|expires| *expires > wall).min()
    }

    fn entry(&mut self, name: String, code: Code, expires: Option<Duration>, origin: Origin) -> Entry {
        self.made += 1;
        Entry { pass: PassId(self.made), name, code, expires, origin }
    }

    fn take(&mut self, which: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.entries.extract_if(.., |entry| which(entry)).collect()
    }
}

/// Whether this can be the name of a code, or of anything else that an operator names.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(fits) && !matches!(text, "." | "..")
}

/// Checks that this can be the name of a code.
fn check_name(name: &str) -> Result<(), BookError> {
    if is_name(name) {
        return Ok(());
    }
    Err(BookError::Name(name.chars().filter(|c| !c.is_control()).take(NAME_BYTES).collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn names(book: &Book) -> Vec<&str> {
        book.entries().iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn codes_are_added_expire_and_are_revoked() {
        let mut book = Book::default();
        assert_eq!(book.set_main(Code::random()), None);
        let monday = book.add("monday", Code::random(), Some(DAY)).unwrap().clone();
        assert_eq!(book.add("monday", Code::random(), None), Err(BookError::Taken("monday".into())));
        assert_eq!(book.add("main", Code::random(), None), Err(BookError::Taken("main".into())));
        for name in ["", "a b", "a/b", "..", &"x".repeat(65), "é"] {
            assert!(matches!(book.add(name, Code::random(), None), Err(BookError::Name(_))), "{name}");
        }
        assert_eq!(book.next_expiry(Duration::ZERO), Some(DAY));
        assert_eq!(book.valid(DAY - Duration::from_secs(1)).len(), 2);
        assert_eq!((book.valid(DAY).len(), book.next_expiry(DAY)), (1, None));
        assert_eq!(book.revocable("tuesday"), Err(BookError::Unknown("tuesday".into())));
        assert_eq!(book.revocable("monday").unwrap(), &monday);
        assert_eq!(book.remove(monday.pass), Some(monday));
        assert_eq!(names(&book), ["main"]);
    }

    #[test]
    fn a_reload_keeps_what_stays_and_tells_what_goes() {
        let (mut book, one, two) = (Book::default(), Code::random(), Code::random());
        book.set_main(Code::random());
        let code = |name: &str, code: &Code| (name.to_owned(), code.clone(), None);
        book.set_config(vec![code("a", &one), code("b", &two)]).unwrap();
        let [a, b] = [1, 2].map(|at: usize| book.entries()[at].pass);
        let gone = book.set_config(vec![code("b", &Code::random()), code("a", &one)]).unwrap();
        let passes: Vec<_> = gone.iter().map(|entry| entry.pass).collect();
        assert_eq!(passes, [b], "b has another code now, a the same");
        assert_eq!(book.entries().iter().find(|entry| entry.name == "a").unwrap().pass, a);
        assert_eq!(book.revocable("a"), Err(BookError::Config("a".into())));
        assert_eq!(
            book.set_config(vec![code("a", &one), code("z", &one)]),
            Err(BookError::Same("z".into(), "a".into()))
        );
        let own = book.entries()[0].code.clone();
        assert_eq!(book.set_config(vec![code("c", &own)]), Err(BookError::Same("c".into(), "main".into())));
        assert_eq!(book.set_config(vec![code("main", &two)]), Err(BookError::Taken("main".into())));
        assert_eq!(names(&book), ["main", "b", "a"], "nothing is changed");
    }

    #[test]
    fn an_added_code_gives_way_to_one_of_the_config_file_that_has_its_name_or_is_the_same() {
        let (mut book, one, two) = (Book::default(), Code::random(), Code::random());
        let friday = book.add("friday", Code::random(), None).unwrap().clone();
        let guests = book.add("guests", two.clone(), None).unwrap().clone();
        book.add("monday", Code::random(), None).unwrap();
        let wanted = || vec![("friday".to_owned(), one.clone(), None), ("visitors".to_owned(), two.clone(), None)];
        assert_eq!(book.set_config(wanted()).unwrap(), [friday, guests]);
        assert_eq!(names(&book), ["monday", "friday", "visitors"]);
        assert!(book.entries()[1..].iter().all(|entry| entry.origin == Origin::Config));
        assert_eq!(book.set_config(wanted()).unwrap(), []);
    }

    #[test]
    fn a_fresh_code_of_the_daemon_is_another_pass() {
        let mut book = Book::default();
        book.set_main(Code::random());
        let first = book.entries()[0].pass;
        assert_eq!(book.set_main(Code::random()), Some(first));
        assert_ne!(book.entries()[0].pass, first);
    }
}
