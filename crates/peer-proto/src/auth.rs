//! Bearer credentials (RFC 6750 §2.1) and the secret they are compared with.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::field::{FieldName, Fields};

/// The secret that both peers agreed on out of band.
///
/// Never printed: its `Debug` is a placeholder, and it has no `Display`.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

/// Why a text cannot serve as a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// An empty token would let everybody in.
    #[error("the token is empty")]
    Empty,
    /// A control byte, or white space at an end, cannot be carried in a field.
    #[error("the token has a control byte, or white space at an end")]
    Unsendable,
}

impl Token {
    /// Takes `text` for the shared secret.
    ///
    /// RFC 6750 names a narrower alphabet (`b64token`); the published peers take any text, so all
    /// that a field value can carry is accepted.
    ///
    /// # Errors
    /// [`TokenError`] for a text that is empty or cannot be sent as it is.
    pub fn new(text: impl Into<String>) -> Result<Self, TokenError> {
        let text = text.into();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let is_sendable = crate::field::is_field_value(text.as_bytes()) && !text.contains('\t');
        if !is_sendable {
            return Err(TokenError::Unsendable);
        }
        Ok(Self(text.into_bytes().into_boxed_slice()))
    }

    /// Whether `credentials` are this token. The time taken depends on the lengths alone.
    #[must_use]
    pub fn matches(&self, credentials: &[u8]) -> bool {
        self.0.ct_eq(credentials).into()
    }

    /// The bytes to send. Keep them out of logs.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a request's `Authorization` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// No `Authorization` field.
    Absent,
    /// Another auth-scheme, or `Bearer` without anything behind it.
    Unusable,
    /// Several `Authorization` fields. Which one counts would be a guess.
    Repeated,
    /// The credentials of the Bearer scheme, not compared with anything yet.
    Bearer(&'a [u8]),
}

/// Reads the `Authorization` field. The scheme is matched in any case (RFC 9110 §11.1).
#[must_use]
pub fn credentials<'a>(fields: &Fields<'a>) -> Credentials<'a> {
    const SCHEME: &[u8] = b"Bearer ";
    match fields.single(FieldName::Authorization) {
        Ok(None) => Credentials::Absent,
        Err(_) => Credentials::Repeated,
        Ok(Some(value)) => match value.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
                // A field value does not end with a space, so something follows.
                let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
                Credentials::Bearer(&rest[spaces..])
            }
            _ => Credentials::Unusable,
        },
    }
}

/// The challenge of a 401 to a request without usable credentials. RFC 6750 §3: an auth-param is
/// required, and no error code is given to who presented nothing.
pub const CHALLENGE: &str = "Bearer realm=\"peer\"";

/// The challenge of a 401 to a token that does not match (RFC 6750 §3.1).
pub const CHALLENGE_INVALID_TOKEN: &str = "Bearer realm=\"peer\", error=\"invalid_token\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldLines;

    fn check(section: &str, expected: Credentials<'_>) {
        let text = format!("{section}\r\n");
        let (lines, _) = FieldLines::parse(text.as_bytes(), 0).unwrap().unwrap();
        assert!(
            credentials(&lines.of(text.as_bytes())) == expected,
            "{section:?}"
        );
    }

    #[test]
    fn authorization_fields() {
        check("", Credentials::Absent);
        check("Authorization: Bearer abc\r\n", Credentials::Bearer(b"abc"));
        check(
            "Authorization: bEARER   a b \r\n",
            Credentials::Bearer(b"a b"),
        );
        check("Authorization: Bearer\r\n", Credentials::Unusable);
        check("Authorization: Bearer\tabc\r\n", Credentials::Unusable);
        check("Authorization: Bearerabc\r\n", Credentials::Unusable);
        check("Authorization: Basic abc\r\n", Credentials::Unusable);
        check("Authorization: abc\r\n", Credentials::Unusable);
        check("Authorization:\r\n", Credentials::Unusable);
        check(
            "Authorization: Bearer a\r\nauthorization: Bearer a\r\n",
            Credentials::Repeated,
        );
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new("secret").unwrap();
        assert!(token.matches(b"secret"));
        for wrong in ["", "s", "secre", "secrets", "Secret", "secret "] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_never_shown_and_always_sendable() {
        assert_eq!(format!("{:?}", Token::new("secret").unwrap()), "Token(…)");
        assert!(matches!(Token::new(""), Err(TokenError::Empty)));
        for text in [" a", "a ", "\ta", "a\tb", "a\nb", "a\0", "a\x7f"] {
            assert!(
                matches!(Token::new(text), Err(TokenError::Unsendable)),
                "{text:?}"
            );
        }
        assert!(Token::new("päss wörd").is_ok());
    }
}
