//! Topic ids, directory ids and cluster ids.

use std::fmt;
use std::str::FromStr;

/// Sixteen bytes, most significant first. Kafka shows them in base64url without padding: 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// A text that is not the base64url form of sixteen bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseUuidError;

/// RFC 4648, table 2.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// No id: all zero.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits make 21 characters of six bits, and one more of two bits and four zeros.
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0; 22];
        for (index, character) in text.iter_mut().enumerate() {
            let six = if index < 21 { bits >> (122 - 6 * index) } else { bits << 4 };
            *character = ALPHABET[(six & 0x3f) as usize];
        }
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let text: &[u8; 22] = text.as_bytes().try_into().map_err(|_| ParseUuidError)?;
        let mut bits = 0_u128;
        for (index, character) in text.iter().enumerate() {
            let six = ALPHABET.iter().position(|known| known == character).ok_or(ParseUuidError)? as u128;
            if index < 21 {
                bits = bits << 6 | six;
            } else if six & 0x0f == 0 {
                bits = bits << 2 | six >> 4;
            } else {
                return Err(ParseUuidError);
            }
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 22 characters of base64url")
    }
}

impl std::error::Error for ParseUuidError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // The id that Kafka reserves for the metadata topic: the number 1.
        let one = Uuid(1_u128.to_be_bytes());
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let mixed = Uuid(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes());
        assert_eq!(mixed.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        for id in [one, mixed, Uuid([0xff; 16])] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn bad_text() {
        for text in
            ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAB"]
        {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
