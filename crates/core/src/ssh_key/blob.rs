//! A key in SSH wire form: RFC 4253 section 6.6 (RSA), RFC 8709 section 4 (ED25519), RFC 5656 section 3.1 (ECDSA), and
//! OpenSSH's PROTOCOL.u2f (FIDO).

use super::algorithm::Algorithm;
use super::error::KeyError;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, EcdsaVerificationAlgorithm,
    ParsedPublicKey,
};

/// Largest RSA exponent, in bits: what OpenSSL, and with it sshd, takes for every size of modulus.
const LARGEST_EXPONENT: usize = 64;

/// The type that a blob names itself.
pub(super) fn type_name(blob: &[u8]) -> Result<&[u8], KeyError> {
    Fields(blob).string()
}

/// Checks that a blob is a key of this algorithm, that it is sound, and that there is nothing behind it.
pub(super) fn check(algorithm: Algorithm, blob: &[u8]) -> Result<(), KeyError> {
    let mut fields = Fields(blob);
    if fields.string()? != algorithm.name().as_bytes() {
        return Err(KeyError::Damaged);
    }
    match algorithm {
        Algorithm::Rsa => check_rsa(fields.positive()?, fields.positive()?)?,
        Algorithm::Ed25519 => check_ed25519(fields.string()?)?,
        Algorithm::EcdsaP256 => P256.check(&mut fields)?,
        Algorithm::EcdsaP384 => P384.check(&mut fields)?,
        Algorithm::EcdsaP521 => P521.check(&mut fields)?,
        Algorithm::Ed25519Sk => {
            check_ed25519(fields.string()?)?;
            check_application(fields.string()?)?;
        }
        Algorithm::EcdsaP256Sk => {
            P256.check(&mut fields)?;
            check_application(fields.string()?)?;
        }
    }
    if fields.0.is_empty() { Ok(()) } else { Err(KeyError::Damaged) }
}

fn check_rsa(exponent: &[u8], modulus: &[u8]) -> Result<(), KeyError> {
    if !matches!(bit_length(modulus), 2048 | 3072 | 4096) {
        return Err(KeyError::RsaSize);
    }
    // An exponent of 1 makes every message its own signature.
    let fits = (2..=LARGEST_EXPONENT).contains(&bit_length(exponent));
    if !fits || is_even(exponent) || is_even(modulus) { Err(KeyError::UnsoundRsa) } else { Ok(()) }
}

fn bit_length(magnitude: &[u8]) -> usize {
    magnitude.first().map_or(0, |first| magnitude.len() * 8 - first.leading_zeros() as usize)
}

fn is_even(magnitude: &[u8]) -> bool {
    magnitude.last().is_none_or(|last| last.is_multiple_of(2))
}

/// The points of small order, by their y coordinates as a key has them, without the sign: 0, 1 and -1, 0 and 1 once more
/// in their second spelling, and the two of order 8. Under such a key anybody can make a signature that holds.
const SMALL_ORDER: [[u8; 32]; 7] = [
    coordinate(0x00, 0x00, 0x00),
    coordinate(0x01, 0x00, 0x00),
    coordinate(0xec, 0xff, 0x7f),
    coordinate(0xed, 0xff, 0x7f),
    coordinate(0xee, 0xff, 0x7f),
    *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
       \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
    *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
       \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
];

/// A little-endian coordinate whose inner 30 bytes are the same.
const fn coordinate(first: u8, inner: u8, last: u8) -> [u8; 32] {
    let mut bytes = [inner; 32];
    let [start, .., end] = &mut bytes;
    (*start, *end) = (first, last);
    bytes
}

/// Refuses the keys that let in others than their owner: the points of small order. That is all that is checked of the 32
/// bytes. About half of the others are no point on the curve, which aws-lc-rs has no way to ask, and a square root of our
/// own would be a second implementation. Such a key is taken and delivered; sshd refuses every signature under it, for
/// there is no point to verify one with, so that it logs nobody in.
fn check_ed25519(point: &[u8]) -> Result<(), KeyError> {
    let mut y: [u8; 32] = point.try_into().map_err(|_| KeyError::Damaged)?;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    if SMALL_ORDER.contains(&y) { Err(KeyError::WeakEd25519) } else { Ok(()) }
}

/// A curve of RFC 5656.
struct Curve {
    name: &'static [u8],
    /// Length of a coordinate, in bytes.
    coordinate: usize,
    verification: &'static EcdsaVerificationAlgorithm,
}

const P256: Curve = Curve { name: b"nistp256", coordinate: 32, verification: &ECDSA_P256_SHA256_ASN1 };
const P384: Curve = Curve { name: b"nistp384", coordinate: 48, verification: &ECDSA_P384_SHA384_ASN1 };
const P521: Curve = Curve { name: b"nistp521", coordinate: 66, verification: &ECDSA_P521_SHA512_ASN1 };

impl Curve {
    /// Reads the curve's name and a point, which has to be on the curve.
    fn check(&self, fields: &mut Fields<'_>) -> Result<(), KeyError> {
        if fields.string()? != self.name {
            return Err(KeyError::Damaged);
        }
        let point = fields.string()?;
        // Uncompressed, as OpenSSH wants it; the library alone would also take other forms.
        if point.first() != Some(&4) || point.len() != 1 + 2 * self.coordinate {
            return Err(KeyError::Damaged);
        }
        ParsedPublicKey::new(self.verification, point).map(drop).map_err(|_| KeyError::OffCurve)
    }
}

/// What a FIDO key is for, usually `ssh:`. OpenSSH reads it as a C string.
fn check_application(application: &[u8]) -> Result<(), KeyError> {
    if application.contains(&0) { Err(KeyError::Damaged) } else { Ok(()) }
}

/// What is left of a blob.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// A length-prefixed byte string (RFC 4251 section 5).
    fn string(&mut self) -> Result<&'a [u8], KeyError> {
        let (length, after) = self.0.split_first_chunk::<4>().ok_or(KeyError::Damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| KeyError::Damaged)?;
        let (string, after) = after.split_at_checked(length).ok_or(KeyError::Damaged)?;
        self.0 = after;
        Ok(string)
    }

    /// An `mpint` of an RSA key: positive, without a needless leading zero, and given without its sign byte.
    fn positive(&mut self) -> Result<&'a [u8], KeyError> {
        match self.string()? {
            [0, magnitude @ ..] if magnitude.first().is_some_and(|first| *first >= 0x80) => Ok(magnitude),
            magnitude @ [1..=0x7f, ..] => Ok(magnitude),
            _ => Err(KeyError::UnsoundRsa),
        }
    }
}
