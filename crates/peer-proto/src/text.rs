//! Character classes and numbers shared by the parsers.

const TCHAR: u8 = 1;
const FIELD: u8 = 2;
const PCHAR: u8 = 4;
const REG_NAME: u8 = 8;

/// The classes of each byte, since most bytes of a head are asked for theirs.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut index = 0;
    while index < classes.len() {
        let byte = index as u8;
        let is_tchar = matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
            | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        let is_unreserved =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let is_sub_delim = matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        );
        let is_reg_name = is_unreserved || is_sub_delim || byte == b'%';
        if is_tchar {
            classes[index] |= TCHAR;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            classes[index] |= FIELD;
        }
        if is_reg_name || byte == b':' || byte == b'@' {
            classes[index] |= PCHAR;
        }
        if is_reg_name {
            classes[index] |= REG_NAME;
        }
        index += 1;
    }
    classes
};

fn is_of(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_tchar(byte: u8) -> bool {
    is_of(byte, TCHAR)
}

/// A byte that may stand in a field value: HTAB, SP, VCHAR and obs-text (RFC 9110 §5.5).
pub(crate) fn is_field_byte(byte: u8) -> bool {
    is_of(byte, FIELD)
}

/// A byte of a `pchar` of RFC 3986 §3.3, the `%` of its escapes included.
pub(crate) fn is_pchar(byte: u8) -> bool {
    is_of(byte, PCHAR)
}

/// A byte of a `reg-name` of RFC 3986 §3.2.2, the `%` of its escapes included.
pub(crate) fn is_reg_name_byte(byte: u8) -> bool {
    is_of(byte, REG_NAME)
}

/// Cuts optional white space (SP and HTAB) off both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// So many digits always fit into a `u64`.
const SAFE_DIGITS: usize = 19;

/// `1*DIGIT` as a number; saturates at `u64::MAX`, as positions beyond it mean "past the end".
/// `None`: empty, or a byte that is no digit.
pub(crate) fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'));
    }
    Some(value)
}

/// Eight digits as a number: neighbours are joined to pairs, pairs to fours, and those to the
/// whole, all lanes of a word at a time.
fn eight_digits(digits: &[u8; 8]) -> Option<u64> {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let word = u64::from_le_bytes(*digits);
    // Six more take what follows 9 out of the sixteen bytes that start with 0.
    let above = word.wrapping_add(0x0606_0606_0606_0606);
    if word & HIGH != ZEROS || above & HIGH != ZEROS {
        return None;
    }
    let ones = word & !HIGH;
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xffff_ffff)
}

/// The number that the bytes start with, and what stands behind it. `None`: there is none, or it
/// has more digits than always fit.
#[inline]
pub(crate) fn leading_digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut len) = match bytes.first_chunk().and_then(eight_digits) {
        Some(value) => (value, 8),
        None => (0, 0),
    };
    for &byte in &bytes[len..bytes.len().min(SAFE_DIGITS + 1)] {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = u64::wrapping_add(u64::wrapping_mul(value, 10), u64::from(digit));
        len += 1;
    }
    (1..=SAFE_DIGITS)
        .contains(&len)
        .then(|| (value, &bytes[len..]))
}

/// Like [`digits`], but a number that does not fit is `None` too.
pub(crate) fn digits_exact(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// The numbers from 00 to 99.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends a number in decimal.
pub(crate) fn push_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0u8; 20];
    let mut at = text.len();
    while value >= 10 {
        let pair = PAIRS[(value % 100) as usize];
        value /= 100;
        text[at - 2] = pair[0];
        text[at - 1] = pair[1];
        at -= 2;
    }
    if value > 0 || at == text.len() {
        at -= 1;
        text[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, saturating, exact) in [
            ("", None, None),
            ("0", Some(0), Some(0)),
            ("007", Some(7), Some(7)),
            ("18446744073709551615", Some(u64::MAX), Some(u64::MAX)),
            ("18446744073709551616", Some(u64::MAX), None),
            ("99999999999999999999999999", Some(u64::MAX), None),
            ("+5", None, None),
            ("5 ", None, None),
            ("0x5", None, None),
            ("-1", None, None),
        ] {
            assert_eq!(digits(text.as_bytes()), saturating, "{text}");
            assert_eq!(digits_exact(text.as_bytes()), exact, "{text}");
        }
        let powers = (0..20).map(|digits| 10u64.pow(digits));
        let edges = powers.flat_map(|power| [power - 1, power, power + 1, power.saturating_mul(5)]);
        for value in edges.chain([12345, 101, 1_000_100, u64::MAX]) {
            let mut out = Vec::new();
            push_u64(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }

    #[test]
    fn classes() {
        // The characters as RFC 9110 §5.6.2 and RFC 3986 §2.2, §2.3 list them.
        let alphanumeric: Vec<u8> = (b'0'..=b'9')
            .chain(b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .collect();
        let of = |others: &[u8], byte: u8| alphanumeric.contains(&byte) || others.contains(&byte);
        for byte in 0..=u8::MAX {
            assert_eq!(is_tchar(byte), of(b"!#$%&'*+-.^_`|~", byte), "{byte}");
            let reg_name = b"-._~!$&'()*+,;=%";
            assert_eq!(is_reg_name_byte(byte), of(reg_name, byte), "{byte}");
            assert_eq!(is_pchar(byte), of(b"-._~!$&'()*+,;=%:@", byte), "{byte}");
            let is_field = matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
            assert_eq!(is_field_byte(byte), is_field, "{byte}");
        }
    }

    #[test]
    fn eight_digits_at_once() {
        assert_eq!(eight_digits(b"00000000"), Some(0));
        assert_eq!(eight_digits(b"99999999"), Some(99_999_999));
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut text = *b"18273645";
                text[place] = byte;
                let expected = std::str::from_utf8(&text).ok();
                let expected = expected.filter(|text| !text.contains('+'));
                let expected = expected.and_then(|text| text.parse().ok());
                assert_eq!(eight_digits(&text), expected, "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn leading_numbers() {
        for (text, expected) in [
            ("", None),
            ("-", None),
            ("0-", Some((0, "-"))),
            ("12", Some((12, ""))),
            ("12345678", Some((12_345_678, ""))),
            ("1234567:8", Some((1_234_567, ":8"))),
            ("123/5678-", Some((123, "/5678-"))),
            ("\u{fff}12345", None),
            ("98765432109-8", Some((98_765_432_109, "-8"))),
            (
                "9999999999999999999,",
                Some((9_999_999_999_999_999_999, ",")),
            ),
            ("00000000000000000001", None),
        ] {
            let expected = expected.map(|(number, rest)| (number, rest.as_bytes()));
            assert_eq!(leading_digits(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn white_space() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
    }
}
