//! Validators: what tells one version of a representation from another (RFC 9110 §8.8).

use std::fmt;

use crate::{HttpDate, limits::ENTITY_TAG_BYTES_MAX};

/// A strong entity-tag: two representations with the same one are the same, byte for byte.
///
/// Weak tags have no type here: ranges and resuming need strong ones (RFC 9110 §13.1.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EntityTag {
    // Unused bytes are zero, so that comparing whole arrays compares tags.
    opaque: [u8; ENTITY_TAG_BYTES_MAX],
    len: u8,
}

/// A text that cannot stand between the quotes of an entity-tag: a byte outside `etagc`, or more
/// than [`ENTITY_TAG_BYTES_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entity-tag of at most {ENTITY_TAG_BYTES_MAX} visible characters without quotes")]
pub struct InvalidEntityTag;

impl EntityTag {
    /// The strong tag with `opaque` between its quotes.
    ///
    /// # Errors
    /// [`InvalidEntityTag`], for a text with quotes, spaces or control characters, or too long.
    pub fn strong(opaque: impl AsRef<[u8]>) -> Result<Self, InvalidEntityTag> {
        let bytes = opaque.as_ref();
        if bytes.len() > ENTITY_TAG_BYTES_MAX || !bytes.iter().all(|&byte| is_etagc(byte)) {
            return Err(InvalidEntityTag);
        }
        let mut opaque = [0; ENTITY_TAG_BYTES_MAX];
        opaque[..bytes.len()].copy_from_slice(bytes);
        Ok(Self {
            opaque,
            len: bytes.len() as u8,
        })
    }

    /// Parses an `ETag` field value. `None` for a weak tag, one that is too long to keep, and what
    /// is no entity-tag.
    #[must_use]
    pub fn parse_strong(value: &[u8]) -> Option<Self> {
        match entity_tag(value)? {
            (
                Listed {
                    weak: false,
                    opaque,
                },
                [],
            ) => Self::strong(opaque).ok(),
            _ => None,
        }
    }

    /// What stands between the quotes.
    #[must_use]
    pub fn opaque(&self) -> &[u8] {
        &self.opaque[..usize::from(self.len)]
    }

    /// Appends the tag with its quotes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(self.opaque());
        out.push(b'"');
    }
}

impl fmt::Debug for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.opaque().escape_ascii())
    }
}

/// The validators of one representation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The strong entity-tag, if the source has one.
    pub entity_tag: Option<EntityTag>,
    /// The modification date, if the source knows one.
    pub last_modified: Option<HttpDate>,
}

/// `etagc = %x21 / %x23-7E / obs-text`.
const fn is_etagc(byte: u8) -> bool {
    byte == 0x21 || (byte >= 0x23 && byte != 0x7f)
}

/// One member of a list of entity-tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed<'a> {
    pub(crate) weak: bool,
    pub(crate) opaque: &'a [u8],
}

/// The entity-tag at the start of `bytes`, and what follows it.
fn entity_tag(bytes: &[u8]) -> Option<(Listed<'_>, &[u8])> {
    let (weak, rest) = match bytes.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let rest = rest.strip_prefix(b"\"")?;
    let end = rest.iter().position(|&byte| !is_etagc(byte))?;
    let after = rest[end..].strip_prefix(b"\"")?;
    Some((
        Listed {
            weak,
            opaque: &rest[..end],
        },
        after,
    ))
}

/// The members of `#entity-tag`. A tag may hold commas, so the list is not split at them. Ends at
/// the first thing that is no entity-tag: what cannot be read cannot match.
pub(crate) fn entity_tags(value: &[u8]) -> impl Iterator<Item = Listed<'_>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let (tag, after) = entity_tag(rest)?;
        rest = match after {
            [] | [b' ' | b'\t' | b',', ..] => after,
            _ => return None,
        };
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let tag = EntityTag::strong("a,b!").unwrap();
        let mut out = Vec::new();
        tag.write(&mut out);
        assert_eq!(out, b"\"a,b!\"");
        assert_eq!(EntityTag::parse_strong(&out), Some(tag));
        assert_eq!(format!("{tag:?}"), "\"a,b!\"");
        assert!(EntityTag::strong("").is_ok());
        assert!(EntityTag::strong("a".repeat(ENTITY_TAG_BYTES_MAX)).is_ok());
        for text in [
            "a b",
            "a\"b",
            "a\r\n",
            "\x7f",
            &"a".repeat(ENTITY_TAG_BYTES_MAX + 1),
        ] {
            assert_eq!(EntityTag::strong(text), Err(InvalidEntityTag), "{text:?}");
        }
        for text in [
            "W/\"a\"",
            "a",
            "\"a",
            "a\"",
            "\"a\"b",
            "\"a\", \"b\"",
            "",
            "w/\"a\"",
        ] {
            assert_eq!(EntityTag::parse_strong(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn lists() {
        let list = |text: &'static str| -> Vec<(bool, &str)> {
            entity_tags(text.as_bytes())
                .map(|tag| (tag.weak, std::str::from_utf8(tag.opaque).unwrap()))
                .collect()
        };
        assert_eq!(
            list("\"a\", W/\"b,c\" ,, \"\""),
            [(false, "a"), (true, "b,c"), (false, "")]
        );
        assert_eq!(list("\"a\"x, \"b\""), []);
        assert_eq!(list("\"a\", b, \"c\""), [(false, "a")]);
        assert_eq!(list("*"), []);
    }
}
