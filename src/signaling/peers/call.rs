//! Whom the daemon calls of itself: `--call none|joined|glob:PATTERN`.

use std::fmt;

/// The most characters of a pattern.
const PATTERN_MAX: usize = 128;

/// Which peers get an offer when they join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CallPolicy {
    /// None: they offer themselves.
    #[default]
    None,
    /// All that join.
    Joined,
    /// Those whose name fits.
    Named(Glob),
}

impl CallPolicy {
    /// Reads `none`, `joined` or `glob:PATTERN`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "joined" => Some(Self::Joined),
            _ => text.strip_prefix("glob:").and_then(Glob::parse).map(Self::Named),
        }
    }

    /// Whether a peer of this name is called.
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Joined => true,
            Self::Named(glob) => glob.fits(name),
        }
    }
}

/// A pattern of names: `*` is any text, `?` one character, everything else itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    /// Takes a pattern of 1 to 128 characters; `None` for others.
    pub fn parse(pattern: &str) -> Option<Self> {
        let characters: Vec<char> = pattern.chars().collect();
        (1..=PATTERN_MAX).contains(&characters.len()).then_some(Self(characters))
    }

    /// Whether all of `name` fits; takes at most the product of both lengths in steps.
    pub fn fits(&self, name: &str) -> bool {
        let (pattern, name): (&[char], Vec<char>) = (&self.0, name.chars().collect());
        let (mut at, mut taken) = (0, 0);
        // Where the last star stands, and how much of the name it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while taken < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, taken));
                    at += 1;
                }
                Some(&expected) if expected == '?' || expected == name[taken] => {
                    at += 1;
                    taken += 1;
                }
                _ => match &mut star {
                    Some((star_at, star_taken)) => {
                        *star_taken += 1;
                        (at, taken) = (*star_at + 1, *star_taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|&rest| rest == '*')
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.0.iter().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn globs_fit_whole_names() {
        let table = [
            ("a*", "alice", true),
            ("a*", "Alice", false),
            ("*@room?", "bob@room1", true),
            ("*@room?", "bob@room12", false),
            ("?", "é", true),
            ("?", "", false),
            ("*", "", true),
            ("**a", "ba", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axcxb", false),
            ("desk", "desk2", false),
        ];
        for (pattern, name, fits) in table {
            assert_eq!(Glob::parse(pattern).unwrap().fits(name), fits, "{pattern} {name}");
        }
        assert_eq!((Glob::parse(""), Glob::parse(&"*".repeat(129))), (None, None));
    }

    #[test]
    fn policies_are_read() {
        assert!(CallPolicy::parse("joined").unwrap().includes("anybody"));
        assert!(!CallPolicy::parse("none").unwrap().includes("anybody"));
        assert!(CallPolicy::parse("glob:s-*").unwrap().includes("s-17"));
        for bad in ["", "Joined", "all", "glob:", "glob"] {
            assert_eq!(CallPolicy::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pattern_of_stars_does_not_take_for_ever() {
        let hostile = Glob::parse(&"*a".repeat(64)).unwrap();
        assert!(!hostile.fits(&("a".repeat(500) + "b")));
    }
}
