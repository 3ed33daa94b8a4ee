//! Tokens: `cable_<id>_<secret>`, of which a node keeps only a hash.

use std::{fmt, io};

use sha2::{Digest as _, Sha256};

/// The start of every token. Scanners for leaked secrets recognise it.
const PREFIX: &str = "cable_";

/// The length of an id: 62^8 ids never meet by chance.
const ID_LENGTH: usize = 8;

/// The length of a secret: 43 digits of base 62 hold 256 bits.
const SECRET_LENGTH: usize = 43;

/// The length of the checksum, which distinguishes a token from a text that only looks like one.
const CHECKSUM_LENGTH: usize = 6;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

/// A token: the secret that a caller sends as `authorization: Bearer <token>`.
///
/// The text is `cable_`, an id of 8 letters and digits, `_`, a secret of 43 letters and digits (256 random bits), and a
/// checksum of 6: the first 32 bits of the SHA-256 of everything before it, in base 62. `Debug` shows only the id.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({PREFIX}{}_...)", self.id())
    }
}

impl Token {
    /// Returns a new token.
    ///
    /// # Errors
    /// The system's random numbers cannot be read.
    pub fn random() -> io::Result<Token> {
        let digits = |count| {
            let mut digits = String::with_capacity(count);
            while digits.len() < count {
                let mut random = [0; 64];
                getrandom::fill(&mut random)?;
                // Bytes above the last multiple of 62 are skipped, so that all digits are equally likely.
                let fair = random.iter().filter(|byte| **byte < 248).take(count - digits.len());
                digits.extend(fair.map(|byte| BASE62[usize::from(*byte) % 62] as char));
            }
            io::Result::Ok(digits)
        };
        let (id, secret) = (digits(ID_LENGTH)?, digits(SECRET_LENGTH)?);
        let body = format!("{PREFIX}{id}_{secret}");
        let checksum = checksum(&body);
        Ok(Token(body + &checksum))
    }

    /// Parses the text of a token.
    pub(crate) fn parse(text: &[u8]) -> Option<Token> {
        let text = std::str::from_utf8(text).ok()?;
        let rest = text.strip_prefix(PREFIX)?;
        let (id, secret) = rest.split_once('_')?;
        let is_base62 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let well_formed = id.len() == ID_LENGTH
            && secret.len() == SECRET_LENGTH + CHECKSUM_LENGTH
            && is_base62(id)
            && is_base62(secret);
        if !well_formed {
            return None;
        }
        let (body, given) = text.split_at(text.len() - CHECKSUM_LENGTH);
        (checksum(body) == given).then(|| Token(text.to_owned()))
    }

    /// Returns the part of the token that is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0[PREFIX.len()..][..ID_LENGTH]
    }

    /// Returns the secret text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn hash(&self) -> TokenHash {
        Sha256::digest(&self.0).into()
    }
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body);
    let mut number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut digits = [0; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    digits.iter().map(|digit| *digit as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_parsed_as_written_and_no_other_text_is() {
        let token = Token::random().unwrap();
        let text = token.expose().to_owned();
        assert_eq!(text.len(), PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH);
        assert_eq!(Token::parse(text.as_bytes()), Some(token.clone()));
        assert_eq!(format!("{token:?}"), format!("Token(cable_{}_...)", token.id()));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(Token::parse(&other), None, "byte {at} was replaced");
            assert_eq!(Token::parse(&text.as_bytes()[..at]), None, "{at} bytes");
        }
        for text in ["", "cable_", "cable__", "cable_é", &format!("{text}0"), &format!(" {text}")] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn tokens_differ_in_every_part() {
        let [a, b] = [Token::random().unwrap(), Token::random().unwrap()];
        assert_ne!(a.id(), b.id());
        assert_ne!(a.hash(), b.hash());
    }
}
