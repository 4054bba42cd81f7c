//! Continuation tokens of listings: where to go on, sealed.
//!
//! A token is of use only to the listing that made it: the MAC covers bucket, prefix and delimiter.
//! Not encrypted, for it says nothing that the listing did not say.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use policies::identity::Bucket;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const MAC_LEN: usize = 16;
const BLOCK: usize = 64;

/// The secret tokens are sealed with; of all nodes that serve the same clients the same.
pub struct Sealer(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// What a listing is of.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    pub bucket: &'a Bucket,
    pub prefix: &'a str,
    pub delimiter: Option<&'a str>,
}

impl Sealer {
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    #[must_use]
    pub fn seal(&self, listing: Listing<'_>, after: &str) -> String {
        let mut token = self.mac(listing, after).to_vec();
        token.extend_from_slice(after.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// None for anything but an unaltered token of this listing.
    #[must_use]
    pub fn open(&self, listing: Listing<'_>, token: &str) -> Option<String> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, after) = bytes.split_at_checked(MAC_LEN)?;
        let after = std::str::from_utf8(after).ok()?;
        let right: bool = self.mac(listing, after).ct_eq(mac).into();
        right.then(|| after.to_owned())
    }

    /// Over the fields, each with its length in front.
    fn mac(&self, listing: Listing<'_>, after: &str) -> [u8; MAC_LEN] {
        let mut text = Vec::with_capacity(64 + after.len());
        let delimiter = listing.delimiter.unwrap_or_default();
        for field in [listing.bucket.as_str(), listing.prefix, delimiter, after] {
            text.extend_from_slice(&(field.len() as u64).to_be_bytes());
            text.extend_from_slice(field.as_bytes());
        }
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&hmac_sha256(&*self.0, &text)[..MAC_LEN]);
        mac
    }
}

/// RFC 2104, for keys of up to 64 bytes.
pub(super) fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let keyed = |pad: u8| {
        let mut block = Zeroizing::new([pad; BLOCK]);
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        Sha256::new().chain_update(*block)
    };
    let inner = keyed(0x36).chain_update(text).finalize();
    keyed(0x5c).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_only_where_it_was_made() {
        let sealer = Sealer::new([7; 32]);
        let bucket = Bucket::new("b");
        let listing = Listing {
            bucket: &bucket,
            prefix: "p/",
            delimiter: Some("/"),
        };
        let token = sealer.seal(listing, "p/ü/key");
        assert_eq!(sealer.open(listing, &token).as_deref(), Some("p/ü/key"));
        let other = Bucket::new("other");
        let elsewhere = [
            Listing {
                bucket: &other,
                ..listing
            },
            Listing {
                prefix: "q/",
                ..listing
            },
            Listing {
                delimiter: None,
                ..listing
            },
        ];
        for listing in elsewhere {
            assert_eq!(sealer.open(listing, &token), None);
        }
        assert_eq!(Sealer::new([8; 32]).open(listing, &token), None);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8_lossy(&forged).into_owned();
            assert_eq!(sealer.open(listing, &forged), None, "{at}");
        }
        for odd in ["", "AAAA", "not base64!", "%%"] {
            assert_eq!(sealer.open(listing, odd), None);
        }
    }
}
