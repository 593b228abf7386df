//! The command line: options in any place, `--` before what only looks like one.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;

use crate::Outcome;

/// A command line that was not understood, and how.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// One word of the command line.
pub(crate) enum Argument {
    /// A word with a leading dash; its value, if it takes one, is the next word.
    Option(String),
    /// Anything else.
    Positional(OsString),
}

/// The words that are left.
pub(crate) struct Arguments {
    words: VecDeque<OsString>,
    only_positional: bool,
}

impl Arguments {
    pub(crate) fn new(words: Vec<OsString>) -> Self {
        Self {
            words: words.into(),
            only_positional: false,
        }
    }

    /// The first word, whatever it looks like.
    pub(crate) fn command(&mut self) -> Option<OsString> {
        self.words.pop_front()
    }

    pub(crate) fn next(&mut self) -> Option<Argument> {
        let word = self.words.pop_front()?;
        match word.to_str() {
            Some("--") if !self.only_positional => {
                self.only_positional = true;
                self.words.pop_front().map(Argument::Positional)
            }
            Some(option)
                if option.len() > 1 && option.starts_with('-') && !self.only_positional =>
            {
                Some(Argument::Option(option.to_owned()))
            }
            _ => Some(Argument::Positional(word)),
        }
    }

    /// The value of an option just read.
    pub(crate) fn value(&mut self, option: &str) -> Outcome<OsString> {
        let value = self.words.pop_front();
        value.ok_or_else(|| Usage(format!("{option} needs a value")).into())
    }

    /// The rest, for a command without options: exactly these words.
    pub(crate) fn exactly<const N: usize>(&mut self, names: [&str; N]) -> Outcome<[String; N]> {
        let mut found = Vec::new();
        while let Some(argument) = self.next() {
            match argument {
                Argument::Option(option) => return Err(unknown(&option)),
                Argument::Positional(word) => found.push(word),
            }
        }
        texts(found, names)
    }
}

/// The error for an option that the command does not have.
pub(crate) fn unknown(option: &str) -> Box<dyn std::error::Error> {
    Usage(format!("no option {option}; try --help")).into()
}

/// The words as text, if they are as many as their names.
pub(crate) fn texts<const N: usize>(
    words: Vec<OsString>,
    names: [&str; N],
) -> Outcome<[String; N]> {
    let texts = words.into_iter().map(text).collect::<Outcome<Vec<_>>>()?;
    let wrong_count = |_| Usage(format!("expected {}; try --help", names.join(" ")));
    Ok(texts.try_into().map_err(wrong_count)?)
}

/// One word as text.
pub(crate) fn text(word: OsString) -> Outcome<String> {
    word.into_string()
        .map_err(|word| Usage(format!("{word:?} is not UTF-8")).into())
}
